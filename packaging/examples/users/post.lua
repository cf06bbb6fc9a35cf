-- What wrk asks: wrk -t2 -c8 -d60s -s post.lua http://NODE:8500/register
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"name": "ada"}'
