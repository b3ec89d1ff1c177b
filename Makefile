# What a person types. Each target says what it does; nothing here is needed by the product itself.
SHELL := /bin/bash
DOTNET ?= dotnet
CONFIGURATION ?= Release
OUT := artifacts/bin

.PHONY: all build publish demo test test-kernel format clean

all: build

build: ## everything, warnings are errors
	$(DOTNET) build Famfs.sln -c $(CONFIGURATION) --nologo -v q

publish: ## famfs, famfsd and famfs-master side by side in artifacts/bin
	for p in Client Master Fuse; do $(DOTNET) publish src/Famfs.$$p -c Release -o $(OUT) --nologo -v q || exit 1; done

demo: publish ## the main job, end to end, on this machine
	deploy/demo.sh $(OUT)

test: ## builds and runs all tests; ends with "N passed, N failed, N skipped"
	tests/run

test-kernel: ## boots guests with a famfs kernel (../shared/testkernel, qemu); ends like test; skipped where those are missing
	tests/kernel/run

format: ## says what is not formatted
	$(DOTNET) format Famfs.sln --verify-no-changes --no-restore --severity warn

clean:
	rm -rf artifacts
	find . -type d \( -name bin -o -name obj \) -path '*/Famfs.*' -prune -exec rm -rf {} +

-include bench/bench.mk
