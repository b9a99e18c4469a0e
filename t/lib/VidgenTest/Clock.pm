package VidgenTest::Clock;

# The clocks of an nginx: the monotonic one, to be moved forward by a test that
# would have to wait too long, and the time of day, as somebody may set it.  A
# preloaded library (it needs gcc) adds an offset to each.
#
#   my $clock = VidgenTest::Clock->new;
#   my $nginx = VidgenTest::Nginx->new(env => { $clock->env }, ...);
#   $clock->forward(61);                     # seconds; the monotonic one
#   $clock->set(-3600);                      # seconds; the time of day

use strict;
use warnings;

use File::Temp qw(tempdir);

use VidgenTest::Util qw(spew);

my $source = <<'EOT';
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static volatile long *offset;
static int (*real)(clockid_t, struct timespec *);
static int (*real_day)(struct timeval *, void *);

__attribute__((constructor)) static void
start(void)
{
    const char *file = getenv("VIDGEN_CLOCK");
    int fd = file ? open(file, O_RDONLY) : -1;
    void *p = MAP_FAILED;

    real = (int (*)(clockid_t, struct timespec *))
               dlsym(RTLD_NEXT, "clock_gettime");
    real_day = (int (*)(struct timeval *, void *))
                   dlsym(RTLD_NEXT, "gettimeofday");

    if (fd != -1) {
        p = mmap(NULL, 2 * sizeof(long), PROT_READ, MAP_SHARED, fd, 0);
    }

    if (p != MAP_FAILED) {
        offset = p;
    }
}

int
clock_gettime(clockid_t id, struct timespec *ts)
{
    int rc = real(id, ts);

    if (offset && (id == CLOCK_MONOTONIC || id == CLOCK_MONOTONIC_COARSE)) {
        ts->tv_sec += offset[0];
    }

    if (offset && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) {
        ts->tv_sec += offset[1];
    }

    return rc;
}

int
gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
    int rc = real_day(tv, zone);

    if (offset) {
        tv->tv_sec += offset[1];
    }

    return rc;
}
EOT


sub new {
    my ($class) = @_;

    my $dir = tempdir('vidgen-clock-XXXXXXXX', TMPDIR => 1, CLEANUP => 1);
    chmod 0755, $dir;
    my $self = bless { file => "$dir/offset", library => "$dir/clock.so",
        offset => 0, day => 0 }, $class;

    spew("$dir/clock.c", $source);
    $self->forward(0);
    system('gcc', qw(-shared -fPIC -O1 -o), $self->{library}, "$dir/clock.c",
        '-ldl') == 0 or die "vidgen test: gcc failed\n";
    return $self;
}


sub env {
    my ($self) = @_;
    return (LD_PRELOAD => $self->{library}, VIDGEN_CLOCK => $self->{file});
}


# It is seen when the process next looks at its clock.
sub forward {
    my ($self, $seconds) = @_;

    $self->{offset} += $seconds;
    $self->_write;
}


# The time of day is so far from the real one, likewise.
sub set {
    my ($self, $seconds) = @_;

    $self->{day} = $seconds;
    $self->_write;
}


sub _write {
    my ($self) = @_;

    open my $file, -e $self->{file} ? '+<' : '>', $self->{file}
        or die "$self->{file}: $!";
    syswrite $file, pack 'l!2', @$self{qw(offset day)};
    close $file;
}


1;
