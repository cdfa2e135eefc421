# make test: everything that the tests need, and the tests. It installs the
# Debian packages that are missing (as root, or by sudo).

GO       ?= go
PACKAGES  = ca-certificates clamav-daemon clamav-milter curl e2fsprogs gcc isync libauthen-sasl-perl libc6-dev libmail-authenticationresults-perl \
            libmail-dkim-perl libnet-ssleay-perl mount \
            oathtool opendkim opendmarc postfix python3 python3-authres python3-dkim rspamd spamass-milter spamassassin spamd swaks
GOLANGCI  = github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

.PHONY: build test deps vet lint unit example generate bench

build:
	$(GO) build -trimpath -o bin/mox-like ./cmd/mox-like

test: deps vet lint unit example

deps:
	@missing=""; \
	for p in $(PACKAGES); do \
		dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$p"; \
	done; \
	if [ -n "$$missing" ]; then \
		sudo=""; [ "$$(id -u)" = 0 ] || sudo=sudo; \
		echo "installing$$missing"; \
		$$sudo apt-get update -qq && \
		$$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; \
	fi

vet:
	$(GO) vet ./...

lint:
	$(GO) run $(GOLANGCI) run ./...

# The race detector makes SQLite slow, not wrong: hence the long timeout.
unit:
	$(GO) test -race -timeout 20m ./...

example: build
	bin/mox-like validate --strict config.hcl.example

generate:
	$(GO) generate ./...

bench:
	$(GO) run ./bench/ingest
