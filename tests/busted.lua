-- luajit busted.lua file: runs one test file; fails when a test fails or none ran.
local passed = 0
local runner = require "busted.runner"
local busted = require "busted"
busted.subscribe({"test", "end"}, function(_, _, status) if status == "success" then passed = passed + 1 end end)
busted.subscribe({"exit"}, function() if passed == 0 then io.stderr:write("no test ran\n"); os.exit(1) end return nil, true end)
runner{standalone = false, output = "plainTerminal"}
