-- Seconds of the monotonic clock, for the benches: local now = dofile "bench/clock.lua".
local ffi = require "ffi"
ffi.cdef "typedef struct { long s, ns; } bench_time; int clock_gettime(int, bench_time *);"
local clock = ffi.new "bench_time"
return function()
  ffi.C.clock_gettime(1, clock)
  return tonumber(clock.s) + 1e-9*tonumber(clock.ns)
end
