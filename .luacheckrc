std = "luajit"
max_line_length = 140
files["tests/"] = {std = "+busted"}
files["lua/perilune/"] = {}
