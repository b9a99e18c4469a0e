#!/usr/bin/perl

# Sequences of events that would lose a result or pay twice, one job each.

use strict;
use warnings;

use Test::More tests => 90;

use VidgenTest::Postgres;
use VidgenTest::Sql qw(id);

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $sql = VidgenTest::Sql->new($pg);
$sql->credits(u1 => 1000);

# What an operation and its providers do; A and B are providers with an
# attempt each, whose id is "A <job>" at the provider.
my %step = (
    begin => sub { [begin => { job => $_[0], attempt => "$_[0] A",
        key => $_[0], candidates => [{ name => 'A' }, { name => 'B' }] }] },
    'A times out' => sub { [next_attempt => { job => $_[0],
        attempt => "$_[0] A", state => 'unknown', reason => 'timeout',
        next => "$_[0] B", provider => 'B' }] },
    'A refuses' => sub { [next_attempt => { job => $_[0],
        attempt => "$_[0] A", state => 'refused', http_status => 503,
        reason => 'http_503', next => "$_[0] B", provider => 'B' }] },
    'A cannot be reached' => sub { [next_attempt => { job => $_[0],
        attempt => "$_[0] A", state => 'unsent', reason => 'connect',
        next => "$_[0] B", provider => 'B' }] },
    'the sweep' => sub { ["SELECT unknown, lost FROM vidgen.sweep('30 min',"
        . " '1 day', 100)"] },
    'an hour' => sub { ["UPDATE vidgen.attempts SET since = since"
        . " - interval '1 hour', lease = lease - interval '1 hour'"
        . " WHERE job_id = '" . id($_[0]) . "'"] },
    'two days' => sub { ["UPDATE vidgen.attempts SET since = since"
        . " - interval '2 days', deadline = deadline - interval '2 days'"
        . " WHERE job_id = '" . id($_[0]) . "'"] },
    again => sub { [begin => { job => "$_[0] again",
        attempt => "$_[0] again A", key => $_[0] }] },
);

for my $p (qw(A B)) {
    $step{"$p accepts"} = sub { [submitted => { job => $_[0],
        attempt => "$_[0] $p", provider_job_id => "$p $_[0]" }] };
    for my $end (qw(unsent refused unknown)) {
        $step{"given up, $p $end"} = sub { [abandon => { job => $_[0],
            attempt => "$_[0] $p", state => $end }] };
    }
    for my $status (qw(queued processing completed failed)) {
        $step{"$p $status"} = sub { [apply => { provider => $p,
            provider_job_id => "$p $_[0]", status => $status,
            video_url => $status eq 'completed' ? "$p.mp4" : undef,
            error => $status eq 'failed' ? "$p failed" : undef }] };
        $step{"$p $status by URL"} = sub { [apply => { provider => $p,
            attempt => "$_[0] $p", provider_job_id => "$p $_[0]",
            status => $status,
            video_url => $status eq 'completed' ? "$p.mp4" : undef }] };
    }
}

# steps, each with the outcome it has to have, and what the job then is: its
# status, and the attempts' states; "late" counts
my @cases = (
    [['begin', 'A accepts', 'A processing', 'A completed'],
        'completed', 'A=completed'],
    [['given up, A unsent: absent', 'begin', 'again: running', 'the sweep',
        'again: running', 'an hour', 'again: processing', 'the sweep',
        'again: processing', 'an hour', 'the sweep', 'again: replay'],
        'failed', 'A=lost'],
    [['begin', 'A accepts', 'A failed'], 'failed', 'A=failed'],
    [['begin', 'A accepts', 'A completed', 'A failed: ignored'],
        'completed', 'A=completed'],
    [['begin', 'A accepts', 'A failed', 'A completed: late'],
        'failed', 'A=completed late'],
    [['begin', 'A accepts', 'A completed', 'A queued: ignored'],
        'completed', 'A=completed'],

    # A times out, B accepts
    [['begin', 'A times out', 'B accepts', 'A failed by URL', 'B completed'],
        'completed', 'A=failed B=completed'],
    [['begin', 'A times out', 'B accepts', 'A completed by URL',
        'B completed: late'], 'completed', 'A=completed B=completed late'],
    [['begin', 'A times out', 'B accepts', 'A completed by URL',
        'B failed: ignored'], 'completed', 'A=completed B=failed'],
    [['begin', 'A times out', 'B accepts', 'B failed',
        'A completed by URL'], 'completed', 'A=completed B=failed'],
    [['begin', 'A times out', 'B accepts', 'B failed',
        'A failed by URL'], 'failed', 'A=failed B=failed'],
    [['begin', 'A times out', 'B accepts', 'B completed',
        'A completed by URL: late'], 'completed',
        'A=completed late B=completed'],
    [['begin', 'A times out', 'given up, B refused: open', 'again: processing',
        'A completed by URL', 'again: replay'], 'completed',
        'A=completed B=refused'],
    [['begin', 'A times out', 'given up, B unsent: open', 'an hour',
        'the sweep', 'again: replay'], 'failed', 'A=lost B=unsent'],
    [['begin', 'A times out', 'given up, B unsent: open', 'an hour',
        'the sweep', 'A completed by URL: late'], 'failed',
        'A=completed late B=unsent'],
    [['begin', 'A times out', 'B accepts', 'an hour', 'the sweep',
        'B completed'], 'completed', 'A=lost B=completed'],
    [['begin', 'A times out', 'B accepts', 'an hour', 'the sweep',
        'A completed by URL'], 'completed', 'A=completed B=accepted'],
    [['begin', 'A times out', 'B accepts', 'B failed', 'an hour',
        'the sweep'], 'failed', 'A=lost B=failed'],

    # A's id comes by its webhook
    [['begin', 'A processing by URL', 'given up, A unknown: open',
        'A completed'], 'completed', 'A=completed'],
    [['begin', 'A times out', 'A processing by URL', 'given up, B refused:'
        . ' open', 'an hour', 'the sweep', 'A failed'], 'failed',
        'A=failed B=refused'],
    [['begin', 'A completed by URL', 'A times out: stop',
        'given up, A unknown: closed'], 'completed', 'A=completed'],
    [['begin', 'A completed by URL', 'A accepts', 'again: replay'],
        'completed', 'A=completed'],
    [['begin', 'A failed by URL', 'A accepts', 'again: replay'],
        'failed', 'A=failed'],
    [['begin', 'A failed by URL', 'A times out: stop',
        'given up, A unknown: closed'], 'failed', 'A=failed'],

    # before it is known at all
    [['begin', 'A completed: parked', 'A accepts', 'A completed: replay'],
        'completed', 'A=completed'],
    [['begin', 'A failed: parked', 'A completed: parked', 'A accepts'],
        'failed', 'A=completed late'],
    [['begin', 'A processing: parked', 'A times out', 'B accepts',
        'A completed by URL', 'B failed: ignored'], 'completed',
        'A=completed B=failed'],

    # refused and unsent
    [['begin', 'A refuses', 'given up, B refused: closed', 'again: go'],
        'failed', 'A=refused B=refused'],
    [['begin', 'A cannot be reached', 'B accepts', 'B failed',
        'again: replay'], 'failed', 'A=unsent B=failed'],
    [['begin', 'A refuses', 'B accepts', 'A completed by URL',
        'B completed: late'], 'completed', 'A=completed B=completed late'],
    [['begin', 'A refuses', 'A processing by URL', 'given up, B refused: open',
        'A failed'], 'failed', 'A=failed B=refused'],

    # the worker is dead
    [['begin', 'again: running', 'an hour', 'again: processing', 'the sweep',
        'A completed by URL', 'again: replay'], 'completed', 'A=completed'],
    [['begin', 'an hour', 'the sweep', 'an hour', 'the sweep',
        'again: replay'], 'failed', 'A=lost'],
    [['begin', 'A refuses', 'an hour', 'the sweep', 'B completed by URL'],
        'completed', 'A=refused B=completed'],
    [['begin', 'an hour', 'the sweep', 'A accepts', 'A completed'],
        'completed', 'A=completed'],
    [['begin', 'an hour', 'the sweep', 'given up, A refused: closed',
        'again: go'], 'failed', 'A=refused'],

    # never an answer
    [['begin', 'A accepts', 'two days', 'the sweep', 'A completed'],
        'completed', 'A=completed'],
    [['begin', 'A accepts', 'two days', 'the sweep', 'two days', 'the sweep'],
        'failed', 'A=lost'],
    [['begin', 'A accepts', 'two days', 'the sweep', 'two days', 'the sweep',
        'A completed: late', 'A failed: ignored'], 'failed',
        'A=completed late'],
);

my %usual = (begin => 'go', next_attempt => 'go', submitted => 'recorded',
    apply => 'applied');

# twice: each step once, and each step sent again
for my $times (1, 2) {
    my $n = 0;

    for my $case (@cases) {
        my ($steps, $status, $attempts) = @$case;
        my $job = "j$times-" . ++$n;
        my (@wrong, $call);

        for my $text (@$steps) {
            my ($name, $wanted) = split /: /, $text;
            $call = ($step{$name} // die "no step $name")->($job);

            if (@$call == 1) {
                $sql->query($call->[0]);
                next;
            }

            my ($r) = $sql->call(@$call);
            $wanted //= $usual{ $call->[0] } // '';
            push @wrong, "$name: $r->{outcome}" if $r->{outcome} ne $wanted;

            next if $times == 1 || $name eq 'again';
            $sql->call(@$call);
        }

        my $found = $sql->query("SELECT a.provider || '=' || a.state"
            . " || CASE WHEN a.late THEN ' late' ELSE '' END"
            . " FROM vidgen.attempts a WHERE a.job_id = '" . id($job)
            . "' ORDER BY a.number");
        my $row = $sql->job($job);

        is(join(', ', @wrong, $row->{status},
            join ' ', map { $_->[0] } @$found), "$status, $attempts",
            join ', ', @$steps);
    }

    $sql->check($times == 1 ? 'once' : 'each twice');
}

is($sql->value('SELECT count(*) FROM vidgen.parked WHERE adopted IS NULL'), 0,
    'what was parked has found its attempt');
is($pg->deadlocks, 0, 'no deadlock');
