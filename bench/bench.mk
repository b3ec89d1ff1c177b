# Benchmarks (docs/benchmarks.md). Included by the top-level Makefile; every path is relative to it.
# BENCH_ARGS goes to the program, e.g. make bench-quick BENCH_ARGS="--rows P4,P7".
BENCH_OUT ?= artifacts/bench
FAMFS_BIN ?= $(BENCH_OUT)/famfs
BENCH_RUN = $(BENCH_OUT)/program/famfs-bench --baseline $(BENCH_OUT)/baseline --famfs $(FAMFS_BIN) --output $(BENCH_OUT)
BENCH_PUBLISH = dotnet publish -c Release -m:1 --nologo -v q

.PHONY: bench bench-quick bench-self-check bench-build bench-baseline

bench: bench-build
	$(BENCH_RUN) $(BENCH_ARGS)

bench-quick: bench-build
	$(BENCH_RUN) --quick $(BENCH_ARGS)

# The baselines against themselves: how far from 1.00x this machine is by noise alone.
bench-self-check: bench-build
	$(BENCH_RUN) --quick --self-check $(BENCH_ARGS)

# A piece of the product that cannot be built leaves its rows "not available"; the old one is never measured.
bench-build: bench-baseline
	rm -rf $(BENCH_OUT)/famfs $(BENCH_OUT)/program
	for p in Cli Master Fuse; do \
		$(BENCH_PUBLISH) src/Famfs.$$p -o $(BENCH_OUT)/famfs || echo "bench: Famfs.$$p cannot be built" >&2; \
	done
	$(BENCH_PUBLISH) bench/Famfs.Benchmarks -o $(BENCH_OUT)/program

bench-baseline:
	bench/baseline/build-baseline.sh $(BENCH_OUT)/baseline
