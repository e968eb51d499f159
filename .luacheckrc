std = "luajit"
max_line_length = 170
files["tests/"] = {std = "+busted"}
files["tests/run_spec.lua"] = {globals = {"SPEC_COUNT", "arg", "os"}}
files["tests/examples/"] = {globals = {"print"}}
