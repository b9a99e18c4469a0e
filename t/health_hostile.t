#!/usr/bin/perl

# Not under valgrind: it measures memory
#
# Providers whose answers do not end before their body does, or begins: the
# probe fails, as after any answer that is no HTTP, and the monitor keeps
# little of it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use File::Temp qw(tempdir);
use IO::Socket::INET;
use POSIX ();
use Test::More;

use VidgenTest::Http qw(get);
use VidgenTest::Nginx;
use VidgenTest::Util qw(die_with_parent slurp spew wait_for);

my $head = "HTTP/1.1 200 OK\r\n";
my $line = 'X: ' . 'a' x 1000 . "\r\n";

# How an answer begins, and what follows again and again.
my %kinds = (
    trailers => ["${head}Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n",
        $line],
    headers  => [$head, $line],
    header   => ["${head}X: ", 'a' x 1000],
    status   => ['HTTP/1.1 200 ', 'a' x 1000],
    interim  => ['', "HTTP/1.1 100 Continue\r\n$line\r\n"],
);
my @kinds = sort keys %kinds;

plan tests => 1 + 3 * @kinds;

my $dir = tempdir(CLEANUP => 1);
my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 64)
    or die "listen: $!";
my $server = fork // die "fork: $!";
serve() if !$server;

# Each is well until the file of its name is there.
sub serve {
    die_with_parent();
    $SIG{CHLD} = $SIG{PIPE} = 'IGNORE';
    while (my $client = $listener->accept) {
        next if fork;
        die_with_parent();
        sysread $client, my $request, 8192;
        my ($kind) = ($request // '') =~ m{^\S+ /(\w+) };
        my ($begin, $more) = $kind && -e "$dir/$kind" ? @{ $kinds{$kind} }
            : ("${head}Content-Length: 0\r\n\r\n", '');
        $more x= 100;
        syswrite $client, $begin;
        while (length $more && syswrite $client, $more) { }
        POSIX::_exit(0);
    }
    POSIX::_exit(0);
}

my $providers = join '', map { "vidgen_provider $_ {
        submit { url %%BASE%%/jobs; job_id /id; }
        probe  { url %%BASE%%/$_; }
    }\n" } @kinds;

my $nginx = VidgenTest::Nginx->new(
    vars => { BASE => 'http://127.0.0.1:' . $listener->sockport },
    config => <<EOT)->start;
%%GLOBALS%%
events { }
http {
    %%HTTP%%
    vidgen_monitor interval=500ms timeout=3s fails=1 slow=0;
    $providers
    server { listen 127.0.0.1:%%PORT%%; location = /health { vidgen_health; } }
}
EOT

sub health { get($nginx->url("/health?provider=$_[0]"))->{json} // {} }

my $monitor;

sub memory { slurp("/proc/$monitor->{pid}/status") =~ /VmHWM:\s+(\d+)/; $1 }

ok((wait_for { @kinds == grep { health($_)->{last_check} } @kinds }),
    'all are well');
($monitor) = grep { $_->{title} =~ /monitor/ } $nginx->processes;

for my $kind (@kinds) {
    my $before = memory();
    spew("$dir/$kind", '');
    ok((wait_for { (health($kind)->{status} // '') eq 'down' }),
        "$kind: down");
    is(health($kind)->{reason}, 'invalid_answer', '... as an invalid answer');
    cmp_ok(memory(), '<', $before + 8000, '... of which little is kept');
    unlink "$dir/$kind";
}

$nginx->stop;
kill 'KILL', $server;
waitpid $server, 0;
