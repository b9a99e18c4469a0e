#!/usr/bin/perl

# vidgen.due() and vidgen.polled(): whose an attempt is while it is asked for;
# vidgen.sweep(): the last poll of what has expired.

use strict;
use warnings;

use Test::More tests => 44;

use VidgenTest::Postgres;
use VidgenTest::Sql qw(id);

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $sql = VidgenTest::Sql->new($pg);
$sql->credits(u1 => 1000);

sub due {
    my ($providers, $limit) = @_;
    my $rows = $sql->query("SELECT provider_job_id, polls FROM vidgen.due("
        . "'{$providers}', '10 min', " . ($limit // 10) . ", '60 s')");
    return join ' ', sort map { "$_->[0]/$_->[1]" } @$rows;
}

sub polled {
    my ($attempt, $ms, $polls, $answered) = @_;
    return $sql->value("SELECT vidgen.polled(ARRAY['" . id($attempt)
        . "']::uuid[], ARRAY[$ms], ARRAY[$polls], ARRAY[$answered])");
}

sub later {
    my ($attempt, $time) = @_;
    $sql->query('UPDATE vidgen.attempts SET ' . join(', ',
        map { "$_ = $_ - interval '$time'" }
        qw(since due poll_lease deadline)) . " WHERE id = '" . id($attempt)
        . "'");
}

sub sweep {
    my (@polled) = @_;
    my $polled = @polled ? ", '{" . join(',', @polled) . "}'" : '';
    return join ' ', @{ $sql->query('SELECT last_polls, lost FROM'
        . " vidgen.sweep('30 min', '1 day', 100$polled)")->[0] };
}

sub attempt {
    my ($attempt, $what) = @_;
    return $sql->value("SELECT $what FROM vidgen.attempts WHERE id = '"
        . id($attempt) . "'");
}


# --- whose it is

$sql->accepted(job => 'j1', attempt => 'a1', due_ms => 0);
is(due('a'), 'p-j1/1', 'leased');
$sql->call(apply => { provider_job_id => 'p-j1', verdict => 'f' });
is(attempt('a1', 'due <= now()'), 't', 'a webhook that says nothing');
is(due('a'), '', '... does not end the lease');
is(polled('a1', 5000, 1, 'true'), 1, 'when that poll has ended');
is(due('a'), 'p-j1/2', '... it is asked again');
$sql->call(apply => { provider_job_id => 'p-j1', verdict => 'f' });
is(polled('a1', 90000, 2, 'false'), 1, 'what was not answered');
is(attempt('a1', "due > now() + interval '80 s'"), 't', '... has its time');
later('a1', '91 s');
is(due('a'), 'p-j1/3', 'leased once more');
later('a1', '61 s');
is(due('a'), 'p-j1/4', 'that lease is over: another has it');
is(polled('a1', 0, 3, 'true'), 0, '... and not the one before');
is(due('a'), '', '... who does not give it away');
is(polled('a1', 5000, 4, 'true'), 1, '... which it may itself');
is(attempt('a1', "due > now() AND poll_lease IS NULL"), 't',
    '... and then it has time');
is($sql->value("SELECT vidgen.polled(ARRAY['" . id('a1')
    . "']::uuid[], ARRAY[0])"), 1, 'an nginx of before says less');
is(due('a'), 'p-j1/5', '... and is believed');
$sql->call(apply => { provider_job_id => 'p-j1', video_url => 'u' });


# --- the last poll

$sql->accepted(job => "l$_", attempt => "l$_", due_ms => 60000) for 1 .. 4;
$sql->query("UPDATE vidgen.attempts SET provider = 'b' WHERE id = '"
    . id('l4') . "'");
later("l$_", '25 h') for 1 .. 4;
is(sweep('a'), '4 0', 'due for a last poll');
is(due('a'), 'p-l1/1 p-l2/1 p-l3/1', '... of those that can be polled');
later("l$_", '11 min') for 1 .. 4;
is(sweep('a'), '0 1', 'lost is what nobody can ask for');
is(attempt('l4', 'state'), 'lost', '... only that');
is(sweep(qw(a b)), '0 0', 'what is asked for waits for an answer');
is(polled('l1', 60000, 1, 'true'), 1, 'answered');
is(polled('l2', 60000, 1, 'false'), 1, 'not answered');
is(sweep('a', 'b'), '0 1', '... only the one is lost');
is(attempt('l1', 'state') . ' ' . $sql->job('l1')->{status}, 'lost failed',
    '... the one that was');
later("l$_", '23 h') for 2, 3;
is(sweep(qw(a b)), '0 0', 'the others have time');
$sql->call(apply => { provider_job_id => 'p-l3', video_url => 'u' });
later("l$_", '2 h') for 2, 3;
is(sweep(qw(a b)), '0 1', '... but not for ever');
is($sql->job('l2')->{status} . ' ' . $sql->job('l3')->{status},
    'failed completed', '... nor once they have ended');

# one that was under way already is none

$sql->accepted(job => 'u1', attempt => 'u1', due_ms => 0);
is(due('a'), 'p-u1/1', 'a poll');
$sql->query("UPDATE vidgen.attempts SET since = now() - interval '25 h'"
    . " WHERE id = '" . id('u1') . "'");
is(sweep(qw(a b)), '1 0', 'it expires meanwhile');
is(polled('u1', 60000, 1, 'true'), 1, 'the answer');
later('u1', '11 min');
is(sweep(qw(a b)), '0 0', '... is not that of the last poll');
is(due('a'), 'p-u1/2', 'which follows');
polled('u1', 60000, 2, 'true');
is(sweep(qw(a b)), '0 1', '... and ends it');
$sql->check('in the end');


# --- what is not to be asked for is not read

$pg->query(q{
    WITH j AS (
        INSERT INTO video_jobs (id, user_id, model_id, prompt, provider_name,
                                provider_job_id, status)
        SELECT gen_random_uuid(), gen_random_uuid(), 'm', 'p',
               CASE WHEN i % 2 = 0 THEN 'polled' ELSE 'told' END, 'o' || i,
               'processing'
          FROM generate_series(1, 4000) i
        RETURNING *)
    INSERT INTO vidgen.attempts (id, job_id, number, provider,
                                 provider_job_id, state, since, due)
    SELECT gen_random_uuid(), id, 1, provider_name, provider_job_id,
           'accepted', now() - interval '1 h',
           CASE WHEN provider_name = 'polled'
                THEN now() + interval '1 min' END
      FROM j;
    ANALYZE});

# How many pages a call reads.
sub pages {
    my ($providers) = @_;
    my $call = "SELECT * FROM vidgen.due('{$providers}', '10 min', 4, '60 s')";
    $sql->query("BEGIN; $call; ROLLBACK");
    my $plan = $sql->query("BEGIN; EXPLAIN (ANALYZE, BUFFERS) $call");
    $sql->query('ROLLBACK');
    my ($hit) = "@{[map { @$_ } @$plan]}" =~ /shared hit=(\d+)/;
    return $hit;
}

cmp_ok(pages('polled'), '<', 30, 'overdue ones that have their time');
$pg->query("UPDATE vidgen.attempts SET due = now() WHERE provider = 'polled'");
is(scalar @{ $pg->query("SELECT * FROM vidgen.due('{told,polled}', '10 min',
    100, '60 s')") }, 100, 'what is due is found');


# --- tables and functions of before

$pg->query(q{
    ALTER TABLE vidgen.attempts DROP COLUMN poll_lease CASCADE,
        DROP COLUMN last_poll CASCADE;
    DROP FUNCTION vidgen.polled(uuid[], integer[], integer[], boolean[]);
    CREATE FUNCTION vidgen.polled(uuid[], integer[]) RETURNS integer
        LANGUAGE sql AS 'SELECT 1';
    ALTER FUNCTION vidgen.polled OWNER TO vidgen_owner;
    DROP INDEX vidgen.attempts_open;
    CREATE INDEX attempts_due ON vidgen.attempts (due);
    CREATE INDEX attempts_accepted ON vidgen.attempts (provider, since);
    ALTER TABLE vidgen.attempts OWNER TO vidgen_owner;
    UPDATE vidgen.attempts SET state = 'accepted', since = now()
        - interval '25 h', due = now() - interval '1 h', deadline = now()
        - interval '1 min' WHERE state = 'lost'});
$pg->migrate for 1, 2;
is($pg->value("SELECT string_agg(oid::regprocedure || ' ' || proacl::text, ',')
    FROM pg_proc WHERE proname = 'polled'"), 'vidgen.polled(uuid[],integer[],'
    . 'integer[],boolean[]) {vidgen_owner=X/vidgen_owner,'
    . 'vidgen_edge=X/vidgen_owner}', 'are replaced');
is($pg->value("SELECT string_agg(indexname, ' ' ORDER BY indexname)
    FROM pg_indexes WHERE tablename = 'attempts'
    AND indexdef NOT LIKE '%UNIQUE%'"),
    'attempts_open attempts_unidentified', 'and so are the indexes');
$sql->close;
$sql = VidgenTest::Sql->new($pg);
is(sweep(), '0 4', 'what had a deadline then ends by it');

is($pg->deadlocks, 0, 'no deadlock');
