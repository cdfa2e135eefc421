include = ["cycle.d/a.hcl", "cycle.d/none.hcl", "[x"]
