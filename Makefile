# What a person types. Each target says what it does; nothing here is needed by the product itself.
SHELL := /bin/bash
DOTNET ?= dotnet
CONFIGURATION ?= Release
OUT := artifacts/bin
NATIVE := artifacts/native

.PHONY: all build publish native deb images pack demo test test-managed test-native test-kernel test-kills test-survive soak test-packages test-systemd test-kubernetes test-abuse test-damage sim format clean

all: build

build: ## everything, warnings are errors
	$(DOTNET) build Famfs.sln -c $(CONFIGURATION) --nologo -v q

publish: ## famfs, famfsd and famfs-master side by side in artifacts/bin
	for p in Cli Master Fuse; do $(DOTNET) publish src/Famfs.$$p -c Release -o $(OUT) --nologo -v q || exit 1; done
	ln -sf famfsd $(OUT)/famfs-keeper

native: ## the same as native programs in artifacts/native, which need no .NET on the host; needs gcc (or clang) and zlib1g-dev
	rm -rf $(NATIVE)
	for p in Cli Master Fuse; do $(DOTNET) publish src/Famfs.$$p -c Release --use-current-runtime -p:PublishAot=true $(if $(shell command -v clang),,-p:CppCompilerAndLinker=gcc) -o $(NATIVE) --nologo -v q || exit 1; done
	rm -f $(NATIVE)/Famfs.* $(NATIVE)/*.xml
	ln -sf famfsd $(NATIVE)/famfs-keeper

deb: native ## packages famfs, famfs-master and famfs-client in artifacts/deb
	rm -rf artifacts/deb
	deploy/debian/build $(NATIVE) artifacts/deb

images: native ## the image localhost/famfs of the native programs, an OCI archive in artifacts/images; needs buildah
	rm -rf artifacts/images
	deploy/images/build $(NATIVE) artifacts/images

pack: ## the client library and what it stands on as packages in artifacts/packages
	for p in Core Famfs2 Client; do $(DOTNET) pack src/Famfs.$$p -c $(CONFIGURATION) -o artifacts/packages --nologo -v q || exit 1; done

demo: publish ## the main job, end to end, on this machine
	deploy/demo.sh $(OUT)

test: ## builds and runs all tests, those of whole programs on native ones where they can be built; ends with "N passed, N failed, N skipped"
	tests/run

test-managed: ## the tests of whole programs on the managed ones, all of them; ends like test
	tests/run Famfs.EndToEnd

test-native: ## the tests of whole programs on the native ones; ends like test
	tests/run-native $(NATIVE)

test-kernel: ## boots guests with a famfs kernel (../shared/testkernel, qemu); ends like test; skipped where those are missing
	tests/kernel/run

test-kills: ## kills masters and daemons under load, KILLS times (200); ends like test
	tests/run-kills $(or $(KILLS),200)

test-survive: ## kills a kept mount's daemon KILLS times (200) and replaces it UPGRADES times (50) under programs that use it; ends like test
	tests/run-survive $(or $(KILLS),200) $(or $(UPGRADES),50)

soak: ## clients use a nearly full pool while everything is killed in turns, MINUTES long (30); ends like test
	tests/run-soak $(or $(MINUTES),30)

test-packages: ## installs, upgrades and purges the packages of artifacts/native in a chroot; needs root and debootstrap; ends like test
	tests/run-packages $(NATIVE)

test-systemd: ## boots systemd in name spaces of its own with the packages of artifacts/native; needs root and debootstrap; ends like test
	tests/run-systemd $(NATIVE)

test-kubernetes: ## a cluster of two nodes on this machine (../shared/kubernetes) with artifacts/native: install, use, upgrade, drain, remove; ends like test
	tests/run-kubernetes $(NATIVE)

test-abuse: publish ## hostile callers against a master, for minutes: memory, times, connections; needs python3-grpcio
	tests/run-abuse

test-damage: ## every line of every structure, damaged in each way, bit by bit where the damage table says so; takes long; ends with counts
	tests/run-damage

sim: ## simulations: SEED=n repeats a run and prints its history, SEEDS=n runs n of each, FIRST=n from there
	FAMFS_SEED=$(SEED) FAMFS_SEEDS=$(SEEDS) FAMFS_FIRST_SEED=$(FIRST) $(DOTNET) test tests/Famfs.Simulation -c $(CONFIGURATION) --nologo --logger "console;verbosity=detailed"

format: ## says what is not formatted
	$(DOTNET) format Famfs.sln --verify-no-changes --no-restore --severity warn

clean:
	rm -rf artifacts
	find . -type d \( -name bin -o -name obj \) -path '*/Famfs.*' -prune -exec rm -rf {} +

-include bench/bench.mk
