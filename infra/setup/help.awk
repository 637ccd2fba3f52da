# Prints a Makefile's commands in groups: `##@ Group` and `target: ## what it does`.
BEGIN { FS = ":.*## "; print "make COMMAND" }
/^##@ / { printf "\n%s\n", substr($0, 5) }
/^[a-z][a-z0-9-]*:.*## / { printf "  %-20s %s\n", $1, $2 }
