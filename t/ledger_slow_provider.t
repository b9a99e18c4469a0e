#!/usr/bin/perl

# An Idempotency-Key with providers that are slower than every timeout: while
# they may still deliver there is one job, whoever asks for it and how often;
# what becomes of that is the answer.
#
# Not under valgrind: it measures time.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 42;

use VidgenTest::Books qw(balance customer ledger wrong_books);
use VidgenTest::Edge;
use VidgenTest::Http qw(many post send_request wait_answer);
use VidgenTest::Jobs qw(attempts job last_job sweep);
use VidgenTest::Postgres;
use VidgenTest::Provider;

my $pg = VidgenTest::Postgres->new(fsync => 0);
my %standin = map { $_ => VidgenTest::Provider->new(prefix => $_) } qw(a b);

my $nginx = VidgenTest::Edge->new(
    db       => $pg->edge_conninfo,
    workers  => 2,
    standins => \%standin,
    http     => 'vidgen_idempotency ttl=1h;',
    listen   => 'reuseport',
    server   => 'vidgen_prefer a; vidgen_attempt_timeout 3s;')->start;

my $user = customer($pg, 100);
my $url = $nginx->url('/generate-video');
my $body = qq({"user_id":"$user","model_id":"m","prompt":"p"});
my $key;

sub again {
    my $answer = post($url, $body, { 'Idempotency-Key' => $key });
    return join ' ', $answer->{status}, $answer->{json}{status}
        // $answer->{json}{code}, $answer->{json}{job_id} // (),
        $answer->{headers}{'x-idempotent-replay'} ? 'replay' : ();
}

sub asked { join ' ', map { scalar @{ $standin{$_}->requests } } qw(a b) }

# Both are asked and do not answer; the client is told so, and its job is
# returned.
sub generate {
    ($key) = @_;
    $nginx->restart;                # all are healthy again
    for (values %standin) {
        $_->forget;
        $_->answer(hang => 1);
    }

    my $call = send_request('POST', $url, { 'Idempotency-Key' => $key },
        $body);
    $standin{a}->wait_requests(1) or die 'no request';
    is(again(), '409 still_running', "$key: while it is asked");
    $standin{b}->wait_requests(1) or die 'no request';
    my @answers = many(20, 'POST', $url, { 'Idempotency-Key' => $key }, $body);
    is_deeply([grep { $_->{status} != 409 || $_->{headers}{'retry-after'} != 1
        } @answers], [], "$key: while the next one is");

    my $answer = wait_answer($call);
    my $job = last_job($pg);
    is($answer->{body}, qq({"job_id":"$job","provider":"b",)
        . '"status":"processing"}', "$key: the answer");
    is($answer->{status}, 202, "$key: which is 202");
    is(attempts($pg, $job), 'a unknown - timeout, b unknown - timeout',
        "$key: both may have it");
    is(again(), "202 processing $job", "$key: again");
    my @more = many(20, 'POST', $url, { 'Idempotency-Key' => $key }, $body);
    is_deeply([grep { $_->{status} != 202 || $_->{body} ne $answer->{body} }
        @more], [], "$key: and again, and again");
    is(asked(), '1 1', "$key: each was asked once");
    return $job;
}

sub deliver {
    my ($name, $status) = @_;
    my ($hook) = $standin{$name}->requests->[0]{body}
        =~ /"webhook_url":"([^"]+)"/;
    $standin{$name}->send_webhook($hook, id => "$name-$key",
        status => $status);
    my $all = $standin{$name}->wait_webhooks(1) or die 'no answer';
    return $all->[-1]{status};
}


# one delivers

my $job = generate('one');
is(deliver('a', 'completed'), 200, 'the first one delivers');
is(again(), "200 completed $job replay", 'the key has that');
is(deliver('b', 'completed'), 200, 'the second one does too');
is(again(), "200 completed $job replay", 'the key stays with the first');
is(job($pg, $job), 'completed a 2 timeout', 'and so does the job');
is(ledger($pg, $job) . ' ' . balance($pg, $user), 'hold 1 99',
    'it is paid once');

# both fail: the providers were asked, so it is no new try

$job = generate('two');
is(deliver('a', 'failed'), 200, 'the first one fails');
is(again(), "202 processing $job", 'the key waits for the second');
is(deliver('b', 'failed'), 200, 'which fails too');
is(again(), "502 provider_failed $job replay", 'the key has that');
is(asked(), '1 1', 'nobody was asked again');

# nobody says anything

$job = generate('three');
sweep($pg, $job, '1 hour');
is(again(), "502 provider_failed $job replay",
    'what nothing explains has failed');
is(deliver('b', 'completed'), 200, 'the second one delivers after all');
is(again(), "502 provider_failed $job replay", 'too late for the key');
is(ledger($pg, $job) . ' ' . balance($pg, $user), 'hold 1, refund 1 99',
    'the credits stay given back');

# a key is free once its time is over, not before

$pg->query("UPDATE idempotency_log SET expires_at = now() + interval '1 min'
    WHERE job_id = '$job'");
is(again(), "502 provider_failed $job replay", 'a minute before its time');
$pg->query("UPDATE idempotency_log SET expires_at = now()
    WHERE job_id = '$job'");
$_->forget for values %standin;
like(again(), qr/^200 queued (?!$job)\S+$/, 'then it is a new one');

is_deeply([balance($pg, $user), wrong_books($pg)], [98],
    'the books are right');
