-- luajit run_spec.lua file: runs one test file with busted; fails when a test fails or none ran. Loaded again by busted as its
-- helper, to count the tests that passed.
if SPEC_COUNT then
  require("busted").subscribe({"test", "end"}, function(_, _, status)
    if status == "success" then SPEC_COUNT = SPEC_COUNT + 1 end
  end)
  return
end
SPEC_COUNT = 0
local exit = os.exit
os.exit = function(code, ...)
  if SPEC_COUNT == 0 then
    io.stderr:write("no test passed\n")
    code = 1
  end
  exit(code, ...)
end
local me = arg[0]
arg = {[0] = me, "--output=plainTerminal", "--helper=" .. me, arg[1]}
require "busted.runner"{standalone = false}
