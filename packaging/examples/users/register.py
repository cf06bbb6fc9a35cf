"""Registers users: a service of the example `users.toml`."""

from flask import Flask, jsonify, request

app = Flask(__name__)


@app.route("/register", methods=["POST"])
def register():
    name = request.get_json().get("name", "")
    return jsonify({"message": f"{name} is registered"})


if __name__ == "__main__":
    app.run(host="0.0.0.0", port=5000)
