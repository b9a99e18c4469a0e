package VidgenTest::Session;

# A session of psql that stays open, to hold a lock while others wait for it.
#
#   my $session = VidgenTest::Session->new($pg);
#   $session->run("BEGIN; SELECT FROM user_credits FOR UPDATE");
#   $session->wait_waiters(2);          # two sessions wait for a lock
#   $session->run('COMMIT');

use strict;
use warnings;

use IO::Handle;

use VidgenTest::Util qw(wait_for);


sub new {
    my ($class, $pg) = @_;

    pipe my $in, my $write or die "pipe: $!";
    pipe my $read, my $out or die "pipe: $!";

    my $pid = fork // die "fork: $!";
    if (!$pid) {
        close $_ for $write, $read;
        open STDIN, '<&', $in;
        open STDOUT, '>&', $out;
        open STDERR, '>&', $out;
        delete @ENV{grep { /^PG/ } keys %ENV};
        { no warnings 'exec';
          exec "$pg->{bin}/psql", '-XqAt', '-v', 'ON_ERROR_STOP=1', '-d',
            $pg->conninfo; }
        require POSIX;
        POSIX::_exit(127);
    }

    close $_ for $in, $out;
    $write->autoflush(1);
    return bless { pg => $pg, pid => $pid, owner => $$, write => $write,
        read => $read }, $class;
}


# Runs statements and waits for them; returns what they print; dies with
# psql's message.
sub run {
    my ($self, $sql) = @_;

    print { $self->{write} } "$sql;\n\\echo <done>\n";
    my $text = '';
    while (defined(my $line = readline $self->{read})) {
        return $text if $line eq "<done>\n";
        $text .= $line;
    }
    die "session: $text\n";
}


# Waits until $n sessions wait for a lock (whose query matches, as in LIKE),
# and returns true.
sub wait_waiters {
    my ($self, $n, $like) = @_;
    return wait_for { $self->{pg}->value("SELECT count(*)
        FROM pg_stat_activity WHERE wait_event_type = 'Lock'
        AND query LIKE '%" . ($like // '') . "%'") >= $n };
}


sub close {
    my ($self) = @_;
    return if $self->{owner} != $$ || !$self->{pid};
    CORE::close $_ for @$self{qw(write read)};
    local $?;
    waitpid delete $self->{pid}, 0;
}

sub DESTROY {
    my ($self) = @_;
    local ($?, $@, $!);
    $self->close;
}


1;
