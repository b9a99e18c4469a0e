package VidgenTest::Util;

# What all parts of the harness share: ports, waiting, files, children.

use strict;
use warnings;

use Config;
use Cwd qw(abs_path);
use Exporter qw(import);
use Fcntl qw(:flock);
use File::Basename qw(dirname);
use IO::Socket::INET;
use POSIX qw(:sys_wait_h);
use Time::HiRes qw(sleep time);

our @EXPORT_OK = qw(
    alive append die_with_parent free_port patience reap root slurp spawn
    spew uuid wait_for
);

my %lock;                           # port => handle that holds its lock


# A test that is interrupted must still run its END blocks.
for my $signal (qw(INT TERM HUP)) {
    $SIG{$signal} = sub { exit 1 } unless defined $SIG{$signal};
}

# Writing to a peer that has left is an error to look at, not to die of.
$SIG{PIPE} = 'IGNORE';


# The top folder of the tree.
sub root { abs_path(dirname(__FILE__) . '/../../..') }


# How much slower things may be than usual.
sub patience { $ENV{VIDGEN_VALGRIND} ? 10 : 1 }


# A port of 127.0.0.1 that nobody uses and that no other test gets while this
# process or a child of it lives.  Below the range that the kernel hands out
# by itself, so that a server which restarts finds its port still free.
sub free_port {
    my $dir = "/tmp/vidgen-ports-$>";
    mkdir $dir, 0700;

    for (1 .. 1000) {
        my $port = 10240 + int rand 20000;
        next if $lock{$port};

        open my $file, '>>', "$dir/$port" or die "$dir/$port: $!";
        next unless flock $file, LOCK_EX | LOCK_NB;

        my $socket = IO::Socket::INET->new(LocalAddr => '127.0.0.1',
            LocalPort => $port, Proto => 'tcp', Listen => 1) or next;
        close $socket;

        $lock{$port} = $file;
        return $port;
    }

    die "vidgen test: no free port\n";
}


# Calls $condition until it returns something true and returns that; nothing
# after $seconds (30, which a busy machine does not exceed).  It is called once
# more after that, for this process too may have been kept from running.
sub wait_for(&;$) {
    my ($condition, $seconds) = @_;

    my $end = time + ($seconds // 30) * patience();
    my $pause = 0.002;

    while (1) {
        my $over = time > $end;
        my $value = $condition->();
        return $value if $value;
        return if $over;
        sleep $pause;
        $pause *= 1.5 if $pause < 0.05;
    }
}


sub slurp {
    my ($file) = @_;
    open my $f, '<', $file or return undef;
    local $/;
    return scalar <$f> // '';
}

sub spew   { _write('>', @_) }
sub append { _write('>>', @_) }

sub _write {
    my ($mode, $file, $text) = @_;
    open my $f, $mode, $file or die "$file: $!";
    print $f $text;
    close $f or die "$file: $!";
}


# A random version 4 UUID.
sub uuid {
    my $hex = join '', map { sprintf '%04x', int rand 65536 } 1 .. 8;
    substr $hex, 12, 1, '4';
    substr $hex, 16, 1, '8';
    return join '-', unpack 'a8 a4 a4 a4 a12', $hex;
}


# Starts a command in a process group of its own, so that the terminal's ^C
# reaches only the test.  Options: out (a file for its output), env (names and
# values to set), orphan (true: it may outlive the test).  Returns its pid.
sub spawn {
    my ($command, %opt) = @_;

    my $pid = fork // die "fork: $!";
    return $pid if $pid;

    $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP PIPE);
    setpgrp 0, 0;
    die_with_parent() unless $opt{orphan};
    %ENV = (%ENV, %{ $opt{env} // {} });
    open STDIN, '<', '/dev/null';
    open STDOUT, '>>', $opt{out} // '/dev/null';
    open STDERR, '>&', \*STDOUT;
    { no warnings 'exec'; exec @$command }
    print STDERR "$command->[0]: $!\n";
    POSIX::_exit(127);
}


# True once the child has ended; waits for at most $seconds (30).
sub reap {
    my ($pid, $seconds) = @_;
    local $?;
    return wait_for { waitpid($pid, WNOHANG) != 0 } $seconds;
}


# Whether a process runs, as far as one can see: a zombie does not.
sub alive {
    my ($pid) = @_;
    return (slurp("/proc/$pid/stat") // '') =~ /\) [^Z] /;
}


# Asks the kernel to end this process should its parent be killed outright.
sub die_with_parent {
    my %prctl = (x86_64 => 157, aarch64 => 167);
    my ($arch) = $Config{archname} =~ /^(\w+?)-/;
    my $number = $prctl{$arch // ''} or return;
    eval { syscall $number, 1, POSIX::SIGTERM() };
}


1;
