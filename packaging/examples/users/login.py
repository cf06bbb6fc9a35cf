"""Lets users log in: a service of the example `users.toml`."""

from flask import Flask, jsonify, request

app = Flask(__name__)


@app.route("/login", methods=["POST"])
def login():
    name = request.get_json().get("name", "")
    return jsonify({"message": f"{name} is logged in"})


if __name__ == "__main__":
    app.run(host="0.0.0.0", port=5001)
