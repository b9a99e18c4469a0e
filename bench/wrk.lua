-- Requests for wrk: wrk -t1 ... -s wrk.lua URL -- FILE
--
-- Each line of FILE is a request: query string, tab, signature, tab, body.
-- One line is sent again and again; of several, each is sent once, and then
-- the run ends.  Prints one line of JSON.

local ffi = require("ffi")

ffi.cdef [[
    typedef struct { long sec, nsec; } timespec_t;
    int clock_gettime(int clock, timespec_t *time);
    int getpid(void);
    int kill(int pid, int signal);
]]

local requests = {}
local sent = 0
local threads = {}

local function now()
    local time = ffi.new("timespec_t")
    ffi.C.clock_gettime(1, time)
    return tonumber(time.sec) + tonumber(time.nsec) / 1e9
end

-- The thread stops at once; SIGINT ends the wait of the main thread.
local function next_request()
    sent = sent + 1

    if sent == 1 then
        began = now()

    elseif sent == #requests then
        ended = now()
        wrk.thread:stop()
        ffi.C.kill(ffi.C.getpid(), 2)
    end

    return requests[math.min(sent, #requests)]
end

function setup(thread)
    threads[#threads + 1] = thread
end

function init(args)
    local path = wrk.path

    wrk.method = "POST"

    for line in io.lines(args[1]) do
        local query, signature
        query, signature, wrk.body =
            line:match("^([^\t]*)\t([^\t]*)\t(.*)$")
        wrk.path = path .. query
        wrk.headers["Content-Type"] = "application/json"
        wrk.headers["X-Signature"] = signature
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
