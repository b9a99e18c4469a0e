package VidgenTest::Postgres;

# A private PostgreSQL cluster in a temporary folder.
#
#   my $pg = VidgenTest::Postgres->new;       # with the migrations
#   my $n = $pg->value('SELECT count(*) FROM video_jobs');
#   my $rows = $pg->query('SELECT * FROM vidgen.attempts ORDER BY number');
#   $pg->restart('immediate');
#
# It runs as the user postgres when the test runs as root, for the server
# refuses to be root.  It ends with the object or with the test, whichever
# comes first, also when the test dies.
#
# initdb and the migrations take longer than most tests, so the data is a copy
# of what they made once (Postgres/Template.pm).  Therefore all clusters have
# the same system identifier, the migrations are not in log(), and there is no
# database but "postgres"; CREATE DATABASE needs migrate => 0 or fresh => 1.

use strict;
use warnings;

use Config;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Path qw(remove_tree);
use File::Temp qw(tempdir);
use POSIX qw(:sys_wait_h);
use Time::HiRes qw(sleep time);

use VidgenTest::Postgres::Template;
use VidgenTest::Util qw(free_port);

my %running;                        # address => object, of this process

END {
    my $status = $?;
    $_->destroy for values %running;
    $? = $status;
}


# Options: fsync => 0|1 (1), migrate => 0|1 (1; only if it is started),
# settings => { name => value } for postgresql.conf, start => 0|1 (1), fresh =>
# 0|1 (0): no copy, but an initdb and migrations of its own.  Dies when it
# cannot start.
sub new {
    my ($class, %opt) = @_;

    my $self = bless {
        fsync    => $opt{fsync} // 1,
        settings => $opt{settings} // {},
        dir      => tempdir('vidgen-pg-XXXXXXXX', TMPDIR => 1),
        owner    => $$,
        bin      => _bin(),
        user     => _server_user(),
    }, $class;

    $running{$self} = $self;
    require Scalar::Util;
    Scalar::Util::weaken($running{$self});

    my $start = $opt{start} // 1;
    my $migrate = $start && ($opt{migrate} // 1);
    my $copied = !$opt{fresh} && VidgenTest::Postgres::Template::copy(
        $migrate ? 'migrated' : 'plain', "$self->{dir}/data",
        bin => $self->{bin}, root => $self->root);

    $self->_hand_over;
    $self->_initdb unless $copied;
    $self->_configure;
    $self->start if $start;
    $self->migrate if $migrate && !$copied;

    return $self;
}


sub port { $_[0]{port} }
sub host { "$_[0]{dir}/socket" }            # folder of the Unix socket
sub dir  { $_[0]{dir} }
sub pid  { $_[0]{pid} }                     # of the postmaster
sub root { abs_path(dirname(__FILE__) . '/../../..') }


# libpq connection strings: the superuser over the Unix socket, and the role
# that a server in front uses over TCP.
sub conninfo {
    my ($self, $database) = @_;
    return "host=$self->{dir}/socket port=$self->{port} user=postgres dbname="
        . ($database // 'postgres');
}

sub edge_conninfo {
    my ($self, $database) = @_;
    return "host=127.0.0.1 port=$self->{port} user=edge password=edge dbname="
        . ($database // 'postgres');
}


# Starts the server and waits until it accepts connections.
sub start {
    my ($self) = @_;

    return if $self->{pid};

    my $fixed = $self->{port};              # a restart keeps its port

    for my $try (1 .. 20) {
        $self->{port} = $fixed // free_port();
        $self->_spawn;
        return if $self->_wait_ready;
        $self->_reap;
        sleep 0.2 if $fixed;
    }

    die "vidgen test: PostgreSQL did not start:\n" . $self->log;
}


# Modes: smart, fast (default), immediate: a crash as far as the data knows.
sub stop {
    my ($self, $mode) = @_;

    return unless $self->{pid};

    my %signal = (smart => 'TERM', fast => 'INT', immediate => 'QUIT');
    $mode //= 'fast';
    die "unknown mode $mode" unless $signal{$mode};

    kill $signal{$mode}, $self->{pid};
    $self->_reap(60) or die "vidgen test: PostgreSQL did not stop\n";
}


sub restart {
    my ($self, $mode) = @_;
    $self->stop($mode);
    $self->start;
}


# Runs the migrations in order and makes the login role "edge".
sub migrate {
    my ($self, $database) = @_;

    my @files = sort glob($self->root . '/sql/*.sql');
    $self->psql_file($_, database => $database) for @files;

    $self->query(<<'SQL', database => $database);
DO $$
BEGIN
    IF to_regrole('edge') IS NULL THEN
        CREATE ROLE edge LOGIN PASSWORD 'edge';
    END IF;
    IF to_regrole('vidgen_edge') IS NOT NULL THEN
        GRANT vidgen_edge TO edge;
    END IF;
END $$
SQL
    return scalar @files;
}


# Runs SQL (one or more statements, each its own transaction) and returns the
# rows of all of them: an array reference of array references, undef for NULL.
# Options: conninfo or database.  Dies with psql's message; the text has the
# SQLSTATE after "ERROR:  ".
sub query {
    my ($self, $sql, %opt) = @_;

    my ($rows, $error) = $self->_psql([], $sql, %opt);
    die "$error\n" if $error;
    return $rows;
}

# The first column of the first row.
sub value {
    my ($self, $sql, %opt) = @_;
    my $rows = $self->query($sql, %opt);
    return @$rows ? $rows->[0][0] : undef;
}


# The SQLSTATE that the text ends with, '' where all went well; in list
# context the whole message too.
sub sqlstate {
    my ($self, $sql, %opt) = @_;
    my (undef, $error) = $self->_psql([], $sql, %opt);
    my ($state) = ($error // '') =~ /(?:ERROR|FATAL|PANIC):\s+([0-9A-Z]{5}):/;
    $state //= $error ? 'XXXXX' : '';
    return wantarray ? ($state, $error // '') : $state;
}


# Runs a file of SQL as the superuser (or conninfo => ...); dies on an error.
# variables => { name => value } are psql's.
sub psql_file {
    my ($self, $file, %opt) = @_;

    my $set = $opt{variables} // {};
    my @set = map { ('-v', "$_=$set->{$_}") } sort keys %$set;
    my ($rows, $error) = $self->_psql([@set, '-f', $file], undef, %opt);
    die "$error\n" if $error;
    return $rows;
}


sub create_database {
    my ($self, $name) = @_;
    $self->query(qq{CREATE DATABASE "$name"});
    return $self->conninfo($name);
}


# The server's log so far.
sub log {
    my ($self) = @_;
    open my $f, '<', "$self->{dir}/log" or return '';
    local $/;
    return scalar <$f> // '';
}


sub deadlocks {
    my ($self) = @_;
    my @found = $self->log =~ /deadlock detected/g;
    return scalar @found;
}


sub destroy {
    my ($self) = @_;

    return if $self->{owner} != $$ || !$self->{dir};

    delete $running{$self};

    if ($self->{pid}) {
        kill 'QUIT', $self->{pid};
        unless ($self->_reap(20)) {
            kill 'KILL', $self->{pid};
            $self->_reap(5);
        }
    }

    remove_tree($self->{dir}, { safe => 0 });
    $self->{dir} = '';
}

sub DESTROY {
    my ($self) = @_;
    local ($?, $@, $!);
    $self->destroy;
}


# ---- inside ---------------------------------------------------------------

sub _bin {
    my @dirs = grep { -x "$_/postgres" && -x "$_/initdb" }
        ($ENV{PG_BIN} // ()),
        (sort { ($b =~ /(\d+)/)[0] <=> ($a =~ /(\d+)/)[0] }
            glob('/usr/lib/postgresql/*/bin')),
        split(/:/, $ENV{PATH} // '');
    return $dirs[0] // die "vidgen test: no PostgreSQL server found"
        . " (Debian: apt install postgresql)\n";
}


sub _server_user {
    return undef if $> != 0;
    for my $name (qw(postgres nobody)) {
        my @pw = getpwnam $name;
        return [@pw[0, 2, 3]] if @pw;
    }
    die "vidgen test: no user to run PostgreSQL as\n";
}


sub _become_server_user {
    my ($self) = @_;

    if (my $user = $self->{user}) {
        my ($name, $uid, $gid) = @$user;
        $) = "$gid $gid";
        $( = $gid;
        POSIX::setuid($uid);
        die "setuid: $!" if $> != $uid || $< != $uid;
        @ENV{qw(HOME USER LOGNAME)} = ($self->{dir}, $name, $name);
    }
    delete @ENV{grep { /^PG/ } keys %ENV};
    chdir $self->{dir};
}


# Asks the kernel to stop the server should the test be killed outright.
sub _die_with_parent {
    my %prctl = (x86_64 => 157, aarch64 => 167);
    my ($arch) = $Config{archname} =~ /^(\w+?)-/;
    my $number = $prctl{$arch // ''} or return;
    eval { syscall($number, 1, POSIX::SIGQUIT()) };
}


# Gives the folder and what is in it so far to the user who runs the server.
sub _hand_over {
    my ($self) = @_;

    mkdir "$self->{dir}/socket";
    if (my $user = $self->{user}) {
        local $?;
        system 'chown', '-hR', "$user->[1]:$user->[2]", $self->{dir};
        die "vidgen test: cannot chown $self->{dir}\n" if $?;
    }
    chmod 0755, $self->{dir};
}


sub _initdb {
    my ($self) = @_;

    my $pid = fork // die "fork: $!";
    if (!$pid) {
        $self->_become_server_user;
        open STDIN, '<', '/dev/null';
        open STDOUT, '>', 'initdb.log';
        open STDERR, '>&', \*STDOUT;
        exec("$self->{bin}/initdb", '-D', "$self->{dir}/data", '-U',
            'postgres', '-A', 'trust', '-E', 'UTF8', '--locale=C',
            '--no-sync', '--no-instructions')
            or POSIX::_exit(127);
    }
    $self->{pid} = $pid;                # should the test end meanwhile
    waitpid $pid, 0;
    $self->{pid} = undef;
    die "vidgen test: initdb failed: "
        . (_slurp("$self->{dir}/initdb.log") // '') if $?;
}


sub _configure {
    my ($self) = @_;

    my $fsync = $self->{fsync} ? 'on' : 'off';
    my %settings = (
        listen_addresses        => '127.0.0.1',
        unix_socket_directories => "$self->{dir}/socket",
        unix_socket_permissions => '0777',
        fsync                   => $fsync,
        full_page_writes        => $fsync,
        max_connections         => 200,
        shared_buffers          => '64MB',
        deadlock_timeout        => '200ms',
        log_line_prefix         => '%m [%p] %q%u ',
        log_timezone            => 'UTC',
        timezone                => 'UTC',
        %{ $self->{settings} },
    );

    open my $conf, '>>', "$self->{dir}/data/postgresql.conf" or die $!;
    print $conf map { "$_ = '$settings{$_}'\n" } sort keys %settings;
    close $conf;

    open my $hba, '>', "$self->{dir}/data/pg_hba.conf" or die $!;
    print $hba "local all all trust\n",
        "host all all 127.0.0.1/32 scram-sha-256\n";
    close $hba;
}


sub _spawn {
    my ($self) = @_;

    my $pid = fork // die "fork: $!";
    if (!$pid) {
        $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP);
        setpgrp 0, 0;                   # the terminal's ^C is for the test
        $self->_become_server_user;
        _die_with_parent();
        POSIX::close($_) for 3 .. 63;   # no pipe of the test is kept open
        open STDIN, '<', '/dev/null';
        open STDOUT, '>>', 'log';
        open STDERR, '>&', \*STDOUT;
        exec("$self->{bin}/postgres", '-D', "$self->{dir}/data", '-p',
            $self->{port})
            or POSIX::_exit(127);
    }
    $self->{pid} = $pid;
}


sub _wait_ready {
    my ($self) = @_;

    my $end = time + 60;
    while (time < $end) {
        my $text = _slurp("$self->{dir}/data/postmaster.pid") // '';
        my @lines = split /\n/, $text;
        return 1 if ($lines[0] // '') eq $self->{pid}
            && ($lines[7] // '') =~ /^ready/;
        if (waitpid($self->{pid}, WNOHANG) == $self->{pid}) {
            $self->{pid} = undef;
            return 0;
        }
        sleep 0.02;
    }
    return 0;
}


# True once the server has ended.
sub _reap {
    my ($self, $seconds) = @_;

    return 1 unless $self->{pid};

    local $?;
    my $end = time + ($seconds // 10);
    while (1) {
        my $got = waitpid $self->{pid}, WNOHANG;
        if ($got == $self->{pid} || $got == -1) {
            $self->{pid} = undef;
            return 1;
        }
        return 0 if time > $end;
        sleep 0.01;
    }
}


# Returns the rows and the error text (undef: none).  Fields end with 0x1f and
# rows with NUL, so that any text survives; NULL is 0x01.
sub _psql {
    my ($self, $args, $sql, %opt) = @_;

    my $conninfo = $opt{conninfo} // $self->conninfo($opt{database});
    my ($in, $err) = map { File::Temp->new(DIR => _scratch($self)) } 1 .. 2;
    if (defined $sql) {
        binmode $in, ':utf8' if utf8::is_utf8($sql);
        print $in $sql;
        close $in;
        $args = [@$args, '-f', $in->filename];
    }

    my $pid = open(my $out, '-|') // die "fork: $!";
    if (!$pid) {
        open STDIN, '<', '/dev/null';
        open STDERR, '>', $err->filename;
        delete @ENV{grep { /^PG/ } keys %ENV};
        $ENV{PGCLIENTENCODING} = 'UTF8';
        exec("$self->{bin}/psql", '-XqAt0', '-d', $conninfo, '-F', "\x1f",
            '-P', "null=\x01", '-v', 'ON_ERROR_STOP=1', '-v',
            'VERBOSITY=verbose', @$args)
            or POSIX::_exit(127);
    }

    my $text = do { local $/; <$out> } // '';
    local $?;
    close $out;
    my $status = $?;

    my @rows = map {
        [map { $_ eq "\x01" ? undef : $_ } $_ eq '' ? '' : split /\x1f/, $_, -1]
    } split /\0/, $text =~ s/\0\z//r, -1;
    @rows = () if $text eq '';
    my $message = $status ? _slurp($err->filename) || "psql: status $status"
        : undef;
    return (\@rows, $message);
}


sub _scratch {
    my ($self) = @_;
    my $dir = "$self->{dir}/scratch";
    mkdir $dir unless -d $dir;
    return $dir;
}


sub _slurp {
    my ($file) = @_;
    open my $f, '<', $file or return undef;
    local $/;
    return scalar <$f>;
}


1;
