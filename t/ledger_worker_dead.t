#!/usr/bin/perl

# A worker is killed at each step of a generation: nothing is given back while
# a provider may have it, no provider is asked again, its key makes no second
# job, and in the end it is completed or paid back.
#
# Not under valgrind: it kills.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;

use VidgenTest::Books qw(balance customer ledger wrong_books);
use VidgenTest::Edge;
use VidgenTest::Http qw(get post send_request wait_answer);
use VidgenTest::Jobs qw(attempts last_job sweep);
use VidgenTest::PgProxy;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Session;
use VidgenTest::Util qw(wait_for);

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $proxy = VidgenTest::PgProxy->new($pg);
my %standin = map { $_ => VidgenTest::Provider->new(prefix => $_) } qw(a b);

my $nginx = VidgenTest::Edge->new(
    db       => $proxy->conninfo,
    database => 'timeout=30s',
    standins => \%standin,
    server   => <<'EOT')->start;
        vidgen_prefer           a;
        vidgen_attempt_timeout  20s;
        vidgen_retry            attempts=2 backoff=20s max=20s;
EOT

$nginx->allow(qr/exited on signal 9/, qr/was locked by/);

# Each step: how to get there; who has been asked by then; the attempts after
# it; those once the lease is over; who delivers then, if anybody may.
my $attempts_lock = 'BEGIN; LOCK TABLE vidgen.attempts IN EXCLUSIVE MODE';
my $session = VidgenTest::Session->new($pg);
my $call;

my @steps = (
    ['begin is done, its answer on its way', sub {
        my ($last) = @_;
        $proxy->hold;
        begin();
        wait_for { (last_job($pg) // '') gt $last } or die 'no job';
    }, '0 0', 'a sending - -', 'a unknown - -', undef],

    ['the first provider is asked', sub {
        $standin{a}->next(hang => 1);
        begin();
        $standin{a}->wait_requests(1) or die 'no request';
    }, '1 0', 'a sending - -', 'a unknown - -', 'a'],

    ['the first provider has accepted, which waits for a lock', sub {
        $standin{a}->next(wait => 1);
        begin();
        $standin{a}->wait_requests(1) or die 'no request';
        $session->run($attempts_lock);
        $standin{a}->release;
        $session->wait_waiters(1, 'vidgen.submitted') or die 'no waiter';
    }, '1 0', 'a (?:sending - -|accepted 200 -)',
        'a (?:unknown - -|accepted 200 -)', 'a'],

    ['it is recorded, the answer is on its way', sub {
        $standin{a}->next(wait => 1);
        begin();
        $standin{a}->wait_requests(1) or die 'no request';
        $proxy->hold;
        $standin{a}->release;
        wait_for { attempts($pg, last_job($pg)) =~ /accepted/ }
            or die 'not accepted';
    }, '1 0', 'a accepted 200 -', 'a accepted 200 -', 'a'],

    ['moving on waits for a lock', sub {
        $standin{a}->next(wait => 1, status => 502);
        begin();
        $standin{a}->wait_requests(1) or die 'no request';
        $session->run($attempts_lock);
        $standin{a}->release;
        $session->wait_waiters(1, 'vidgen.next_attempt') or die 'no waiter';
    }, '1 0', 'a (?:sending - -|unknown 502 http_502, b sending - -)',
        'a unknown (?:- -|502 http_502, b unknown - -)', 'a'],

    ['it has moved on, the answer is on its way', sub {
        $standin{a}->next(wait => 1, status => 503);
        begin();
        $standin{a}->wait_requests(1) or die 'no request';
        $proxy->hold;
        $standin{a}->release;
        wait_for { attempts($pg, last_job($pg)) =~ /b sending/ }
            or die 'not moved';
    }, '1 0', 'a refused 503 http_503, b sending - -',
        'a refused 503 http_503, b unknown - -', undef],

    ['the second provider is asked', sub {
        $standin{a}->next(status => 503);
        $standin{b}->next(hang => 1);
        begin();
        $standin{b}->wait_requests(1) or die 'no request';
    }, '1 1', 'a refused 503 http_503, b sending - -',
        'a refused 503 http_503, b unknown - -', 'b'],

    ['both have refused, it waits for the next round', sub {
        $standin{$_}->next(status => 503) for qw(a b);
        begin();
        wait_for { my $job = last_job($pg); $nginx->error_log
            =~ /job "$job": provider "b" did not accept/ }
            or die 'no refusal';
    }, '1 1', 'a refused 503 http_503, b sending - -',
        'a refused 503 http_503, b unknown - -', undef],

    ['giving up waits for a lock', sub {
        $standin{a}->next(wait => 1, status => 422);
        begin();
        $standin{a}->wait_requests(1) or die 'no request';
        $session->run($attempts_lock);
        $standin{a}->release;
        $session->wait_waiters(1, 'vidgen.abandon') or die 'no waiter';
    }, '1 0', 'a (?:sending - -|refused 422 http_422)',
        'a (?:unknown - -|refused 422 http_422)', undef],
);

plan tests => 11 * @steps + 2;

my $user = customer($pg, 1000);
my $balance = 1000;
my $name;


sub body { qq({"user_id":"$user","model_id":"m","prompt":"$name"}) }

sub begin {
    $call = send_request('POST', $nginx->url('/generate-video'),
        { 'Idempotency-Key' => $name }, body());
}

# The same key again.
sub again {
    my $answer = post($nginx->url('/generate-video'), body(),
        { 'Idempotency-Key' => $name });
    return "$answer->{status} " . ($answer->{json}{job_id} // '');
}

sub asked {
    return join ' ', map { scalar @{ $standin{$_}->requests } } qw(a b);
}


for my $step (@steps) {
    ($name, my ($reach, $asked, $attempts, $unknown, $delivers)) = @$step;

    # no failures are remembered
    $nginx->restart;
    wait_for { get($nginx->url("/jobs/$user"))->{status} == 404 }
        or die 'no database';
    $_->forget for values %standin;
    my $last = last_job($pg) // '';

    $reach->($last);
    $nginx->kill_worker;
    $session->run('ROLLBACK');
    $proxy->drop;
    $proxy->release;
    wait_answer($call);
    my $job = last_job($pg);

    isnt($job, $last, "$name: there is a job");
    is(asked(), $asked, "$name: who has been asked");

    # what waited for the lock may be done or not
    wait_for { !$pg->value("SELECT count(*) FROM pg_stat_activity
        WHERE usename = 'edge' AND state = 'active'") };
    like(attempts($pg, $job), qr/^$attempts$/, "$name: the attempts");

    my $open = $pg->value("SELECT status FROM video_jobs WHERE id = '$job'")
        ne 'failed';
    is(ledger($pg, $job), $open ? 'hold 1' : 'hold 1, refund 1',
        "$name: the credits");
    my $accepted = attempts($pg, $job) =~ /accepted/;
    is(again(), $accepted ? "200 $job" : $open ? '409 ' : "422 $job",
        "$name: its key, while the lease lasts");

    sweep($pg, $job);
    like(attempts($pg, $job), qr/^$unknown$/, "$name: the attempts then");
    is(ledger($pg, $job), $open ? 'hold 1' : 'hold 1, refund 1',
        "$name: nothing is given back for that");
    is(again(), $accepted ? "200 $job" : $open ? "202 $job" : "422 $job",
        "$name: its key then");

    # its end

    if ($delivers && $open) {
        my $request = $standin{$delivers}->requests->[0];
        my ($hook) = $request->{body} =~ /"webhook_url":"([^"]+)"/;
        $standin{$delivers}->send_webhook($hook,
            id => $request->{id} // "late-$job");
        $standin{$delivers}->wait_webhooks(1) or die 'no answer';
        $balance--;
        is($pg->value("SELECT status || ' ' || provider_name FROM video_jobs
            WHERE id = '$job'"), "completed $delivers",
            "$name: the provider delivers");
    } else {
        sweep($pg, $job, '1 hour');
        is(ledger($pg, $job), 'hold 1, refund 1',
            "$name: nobody delivers, and the credits are back");
    }
    is(balance($pg, $user), $balance, "$name: the balance");
    is(asked(), $asked, "$name: nobody has been asked again");
}

is_deeply([wrong_books($pg)], [], 'the books are right');
is($pg->value('SELECT count(*) FROM video_jobs'), scalar @steps,
    'a job for each key');
