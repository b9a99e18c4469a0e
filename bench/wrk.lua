-- Requests for wrk: wrk -t1 -cN ... -s wrk.lua URL -- FILE N
--
-- Each line of FILE is a request: query string, tab, signature, tab, body.
-- One line is sent again and again; of several, each is sent once, and the
-- run ends when all are answered.  Prints one line of JSON.

local ffi = require("ffi")

ffi.cdef [[
    typedef struct { long sec, nsec; } timespec_t;
    int clock_gettime(int clock, timespec_t *time);
    int getpid(void);
    int kill(int pid, int signal);
]]

local requests = {}
local connections
local sent = -1                   -- wrk asks for one to look at it first
local threads = {}

local function now()
    local time = ffi.new("timespec_t")
    ffi.C.clock_gettime(1, time)
    return tonumber(time.sec) + tonumber(time.nsec) / 1e9
end

-- A connection that has nothing left to do begins a request and does not end
-- it.  When the last one does, all are answered: the thread stops at once, and
-- SIGINT ends the wait of the main thread.
local function next_request()
    sent = sent + 1

    if sent == 1 then
        began = now()

    elseif sent == #requests + connections then
        ended = now()
        wrk.thread:stop()
        ffi.C.kill(ffi.C.getpid(), 2)
    end

    return requests[math.max(sent, 1)] or "GET / HTTP/1.1\r\n"
end

function setup(thread)
    threads[#threads + 1] = thread
end

function init(args)
    local path = wrk.path

    connections = tonumber(args[2])
    wrk.method = "POST"

    for line in io.lines(args[1]) do
        local query, signature
        query, signature, wrk.body =
            line:match("^([^\t]*)\t([^\t]*)\t(.*)$")
        wrk.path = path .. query
        wrk.headers["Content-Type"] = "application/json"
        wrk.headers["X-Signature"] = signature ~= "" and signature or nil
        requests[#requests + 1] = wrk.format()
    end

    if #requests > 1 then
        request = next_request
    end
end

function done(summary, latency)
    local errors = summary.errors
    local seconds = summary.duration / 1e6
    local ended = threads[1]:get("ended")

    if ended then
        seconds = ended - threads[1]:get("began")
    end

    io.write(string.format(
        '{"requests":%d,"seconds":%.6f,"not_2xx":%d,"errors":%d,' ..
        '"p50_ms":%.3f,"p99_ms":%.3f}\n',
        summary.requests, seconds, errors.status,
        errors.connect + errors.read + errors.write + errors.timeout,
        latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
