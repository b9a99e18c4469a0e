#!/usr/bin/perl

# Batches of everything, with overlapping jobs, users and keys in any order,
# from several processes at once.  No error, no deadlock, and the books
# balance.  TEST_SEED=N repeats a run's decisions, TEST_SECONDS=N its length.

use strict;
use warnings;

use POSIX ();
use Test::More tests => 16;
use Time::HiRes qw(time);

use VidgenTest::Postgres;
use VidgenTest::Sql qw(id);

my $workers = 8;
my $seconds = $ENV{TEST_SECONDS} // 8;
my $seed = $ENV{TEST_SEED} // int rand 1e6;
diag("TEST_SEED=$seed");

my $pg = VidgenTest::Postgres->new;
my $sql = VidgenTest::Sql->new($pg);
$sql->credits(map { ("u$_" => 100000) } 1 .. 5);
$sql->credits(u6 => 20);

my %now = (begin => \&begin, submitted => \&submitted, move => \&next_attempt,
    abandon => \&abandon, apply => \&apply, sweep => \&sweep, due => \&due,
    again => \&again);
my @weighted = map { my ($name, $weight) = @$_; ($name) x $weight }
    ['begin', 3], ['submitted', 4], ['move', 2], ['abandon', 2], ['apply', 8],
    ['sweep', 1], ['due', 1], ['again', 1];

my $top = 1;                        # jobs so far, as this process guesses
my $mine;                           # the last batch, to be sent again

sub pick { $_[int rand @_] }
sub some { map { 1 + int rand $top } 1 .. 1 + int rand $_[0] }

sub call {
    my ($session, $name, @events) = @_;
    $mine = [$name, @events];
    return $session->call($name, @events);
}

# a generation's id, attempts and ids at the providers all have its number
sub begin {
    my ($session, $process) = @_;
    my @events = map { { job => "j$_", attempt => "j$_ a", user => 'u'
        . (1 + $_ % 6), key => $_ % 3 ? undef : 'k' . $_ % 40,
        fingerprint => 'f', candidates => [{ name => 'a',
        $_ % 7 ? () : (max_jobs => 5) }, { name => 'b' }],
        ttl_ms => 1 + $_ % 2000, prompt => "p$_" } }
        map { $top + int rand 12 } 1 .. 1 + int rand 12;
    $top += 6;
    call($session, begin => @events);
}

sub submitted {
    my ($session) = @_;
    call($session, submitted => map { my $p = pick(qw(a a b));
        { job => "j$_", attempt => "j$_ $p", provider_job_id => "$p$_",
            due_ms => pick(undef, 0) } } some(12));
}

sub next_attempt {
    my ($session) = @_;
    call($session, next_attempt => map { { job => "j$_", attempt => "j$_ a",
        state => pick(qw(unsent refused unknown)), next => "j$_ b",
        provider => 'b' } } some(8));
}

sub abandon {
    my ($session) = @_;
    call($session, abandon => map { { job => "j$_",
        attempt => "j$_ " . pick(qw(a b)),
        state => pick(qw(unsent refused unknown)),
        answer_status => pick(422, 502, 503) } } some(8));
}

sub apply {
    my ($session) = @_;
    call($session, apply => map { my $p = pick(qw(a a b));
        { provider => $p, provider_job_id => pick("$p$_", "$p$_", undef),
            attempt => pick(undef, "j$_ $p"),
            status => pick(qw(queued processing completed failed failed),
                undef),
            verdict => pick('t', 't', 't', 'f'), digest => pick(1, 2),
            video_url => "$p$_.mp4" } } some(24));
}

sub sweep {
    my ($session) = @_;
    $session->query("SELECT * FROM vidgen.sweep('"
        . pick('0.5 s', '5 s') . "', '" . pick('1 s', '5 s')
        . "', " . pick(1, 20) . ')');
}

sub due {
    my ($session) = @_;
    my $rows = $session->query("SELECT attempt_id FROM vidgen.due('{a,b}',"
        . " '1 s', 10, '0.2 s')");
    return unless @$rows;
    my $ids = join ',', map { "'$_->[0]'" } @$rows;
    my $due = join ',', map { 100 } @$rows;
    $session->query("SELECT vidgen.polled(ARRAY[$ids]::uuid[], ARRAY[$due])");
}

# as after a lost connection
sub again {
    my ($session) = @_;
    $session->call(@$mine) if $mine;
}


my @pids;
for my $process (1 .. $workers) {
    my $pid = fork // die "fork: $!";
    if ($pid) {
        push @pids, $pid;
        next;
    }

    srand $seed + $process;
    my $session = VidgenTest::Sql->new($pg, role => 'edge');
    my $end = time + $seconds;
    my $calls = 0;
    my $ok = eval {
        while (time < $end) {
            $now{ pick(@weighted) }->($session, $process);
            $calls++;
        }
        1;
    };
    my $error = $@;
    print STDERR "# process $process after $calls calls: $error" unless $ok;
    $session->close;
    POSIX::_exit($ok ? 0 : 1);
}

# and the migrations run again meanwhile
my $migrated = eval { select undef, undef, undef, $seconds / 3;
    $pg->migrate; 1 };
ok($migrated, 'the migrations can be run while all this is in use')
    or diag($@);

my $failed = 0;
for my $pid (@pids) {
    waitpid $pid, 0;
    $failed++ if $?;
}
is($failed, 0, 'every call was executed');

is($pg->deadlocks, 0, 'no deadlock');
is($sql->value('SELECT sum(deadlocks) FROM pg_stat_database'), 0,
    '... by the statistics too');
$sql->check('after the storm');

my $jobs = $sql->query('SELECT status, count(*) FROM video_jobs GROUP BY 1'
    . ' ORDER BY 1');
note(join ', ', map { "$_->[0]: $_->[1]" } @$jobs);
note('late: ' . $sql->value('SELECT count(*) FROM vidgen.attempts'
    . ' WHERE late') . ', parked: '
    . $sql->value('SELECT count(*) FROM vidgen.parked'));
like(join(' ', map { $_->[0] } @$jobs), qr/^completed failed/,
    'jobs of every end');

# nothing is held for ever
for (1 .. 100) {
    $sql->query("UPDATE vidgen.attempts SET since = since - interval '2 d',"
        . " lease = lease - interval '2 d', deadline = deadline"
        . " - interval '2 d' WHERE state IN ('sending', 'unknown',"
        . " 'accepted')");
    last if $sql->value("SELECT count(*) FROM vidgen.sweep('1 h', '1 d',"
        . " 1000) s WHERE s.unknown + s.last_polls + s.lost > 0") == 0;
}
is($sql->value("SELECT count(*) FROM video_jobs WHERE status IN ('queued',"
    . " 'processing')"), 0, 'the sweep ends what nobody else ends');
$sql->check('in the end');
