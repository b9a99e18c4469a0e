# GNU make.  "make help" says what there is.

MODULE     = build/ngx_http_vidgen_module.so

# nginx's sources, patched and configured as Debian's nginx is (nginx-dev)
NGX_SRC    = /usr/share/nginx/src
CC_OPT     = -g -O2 -fstack-protector-strong -fPIC -D_FORTIFY_SOURCE=2 \
             -Wall -Wextra -Wformat -Wdate-time
LD_OPT     = -Wl,-z,relro -Wl,-z,now -fPIC

# for install
DESTDIR    =
MODULES    = /usr/lib/nginx/modules
AVAILABLE  = /usr/share/nginx/modules-available
ENABLED    = /etc/nginx/modules-enabled
PROVIDERS  = /etc/nginx/vidgen
SQL        = /usr/share/ngx-http-vidgen/sql

# for test
PROVE      = prove -It/lib
PROVE_FLAGS =

BUILD_PACKAGES  = gcc make nginx nginx-dev libcurl4-openssl-dev \
                  libjansson-dev libpq-dev libssl-dev
TEST_PACKAGES   = ca-certificates curl libio-socket-ssl-perl openssl perl \
                  pgbouncer postgresql \
                  $(if $(shell command -v npm 2>/dev/null),,nodejs npm)
BENCH_PACKAGES  = wrk
MEMORY_PACKAGES = libc6-dbg valgrind

.PHONY: help deps build install demo test torture check check-memory bench \
        clean configured


help:
	@echo 'make deps          install the Debian packages that are missing'
	@echo 'make build         build $(MODULE)'
	@echo 'make install       install it into the nginx of this machine'
	@echo '                   (DESTDIR=/somewhere for a package)'
	@echo 'make demo          show a whole generation, step by step, on a'
	@echo '                   private nginx, PostgreSQL and provider'
	@echo '                   (KEEP=1 leaves them running)'
	@echo 'make test          run the tests (PROVE_FLAGS="-j4 -v")'
	@echo 'make torture       2000 generations while everything fails'
	@echo 'make check         run the checks of the sources'
	@echo 'make check-memory  run the tests under valgrind'
	@echo 'make bench         measure; writes build/bench.json'
	@echo 'make clean         remove build/'


deps:
	@.ci/packages $(BUILD_PACKAGES) $(TEST_PACKAGES)


# A second make, for it has to see what deps installed.
build: deps
	@$(MAKE) --no-print-directory $(MODULE)

# nginx's own Makefile knows which source has changed.  It uses all processors
# unless this make was told how many.  V=1 shows the commands.  The module gets
# a new file, for an nginx may have the old one loaded.
JOBS  = $(if $(filter -j%,$(MAKEFLAGS)),,-j$(shell nproc))
QUIET = $(if $(V),,-s)

$(MODULE): configured
	@echo 'building $@'
	@$(MAKE) $(QUIET) --no-print-directory $(JOBS) -C build/nginx \
	    -f objs/Makefile modules
	@cmp -s build/nginx/objs/$(@F) $@ \
	    || { cp build/nginx/objs/$(@F) $@.new && mv $@.new $@; }

configured: build/nginx/objs/Makefile

build/nginx/objs/Makefile: config build/version
	@echo 'configuring; what configure says is in build/configure.log'
	@rm -rf build/nginx
	@mkdir -p build/nginx
	@cp -rs $(NGX_SRC)/. build/nginx
	@bash -ec '. $(NGX_SRC)/conf_flags; cd build/nginx; \
	    ./configure "$${NGX_CONF_FLAGS[@]}" --with-cc-opt="$(CC_OPT)" \
	        --with-ld-opt="$(LD_OPT)" --add-dynamic-module=$(CURDIR)' \
	    >build/configure.log 2>&1 || { tail -n 15 build/configure.log; \
	                                   rm -f $@; exit 1; }

# changes when another nginx or other flags are to be built for
build/version: always
	@mkdir -p build
	@{ dpkg-query -W nginx-dev; echo '$(CURDIR) $(CC_OPT) $(LD_OPT)'; } \
	    >$@.new
	@cmp -s $@.new $@ || cp $@.new $@
	@rm -f $@.new

.PHONY: always
always:


install: build
	install -d $(DESTDIR)$(MODULES) $(DESTDIR)$(AVAILABLE) \
	    $(DESTDIR)$(ENABLED) $(DESTDIR)$(PROVIDERS) $(DESTDIR)$(SQL)
	install -m 644 $(MODULE) $(DESTDIR)$(MODULES)
	echo 'load_module modules/$(notdir $(MODULE));' \
	    >$(DESTDIR)$(AVAILABLE)/mod-http-vidgen.conf
	ln -sf $(AVAILABLE)/mod-http-vidgen.conf \
	    $(DESTDIR)$(ENABLED)/50-mod-http-vidgen.conf
	install -C -b -m 644 providers/*.conf $(DESTDIR)$(PROVIDERS)
	install -m 644 sql/*.sql $(DESTDIR)$(SQL)


demo: build
	@perl -It/lib demo/demo.pl


test: build
	$(PROVE) $(PROVE_FLAGS) -r t


# VIDGEN_SEED=N repeats the decisions of a run
torture: build
	VIDGEN_GENERATIONS=2000 $(PROVE) -v t/torture.t


check: build
	$(PROVE) t/tree.t
	@for file in $$(find t demo bench -name '*.p[lm]' -o -name '*.t'); do \
	    perl -It/lib -wc $$file 2>&1 | grep -v ' syntax OK$$' && exit 1; \
	done; true
	@for file in .ci/run .ci/packages; do sh -n $$file; done
	@if command -v cppcheck >/dev/null; then \
	    echo cppcheck; \
	    cppcheck -q --enable=warning,portability \
	        --suppress=returnDanglingLifetime --error-exitcode=1 -I src \
	        ngx_http_vidgen_module.c src; \
	else \
	    echo 'cppcheck is not installed: not run'; \
	fi


# those that start nginx, without the tests that kill processes or measure
# time, which say so; half an hour on two processors
check-memory: build
	@.ci/packages $(MEMORY_PACKAGES)
	VIDGEN_VALGRIND=1 $(PROVE) $(PROVE_FLAGS) \
	    $$(grep -lE 'VidgenTest::(Edge|Nginx|Wire)' t/*.t | xargs \
	        grep -L '^# Not under valgrind')


bench: build
	@.ci/packages $(BENCH_PACKAGES)
	@perl -It/lib bench/bench.pl


clean:
	rm -rf build
