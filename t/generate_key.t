#!/usr/bin/perl

# Idempotency-Key: one key of one user makes one job, however often it is
# asked for, and every answer says the same.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 56;

use VidgenTest::Books qw(balance customer everything wrong_books);
use VidgenTest::Edge;
use VidgenTest::Http qw(many post send_request wait_answer);
use VidgenTest::Postgres;
use VidgenTest::Provider;

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $provider = VidgenTest::Provider->new;

my $nginx = VidgenTest::Edge->new(
    db       => $pg->edge_conninfo,
    database => 'timeout=1m',
    workers  => 2,
    fal      => $provider,
    server   => <<'EOT')->start;
        vidgen_retry attempts=1;

        location = /two-in-turn { vidgen_generate; error_page 422 = @second; }
        location @second        { vidgen_generate; }
EOT

my $url = $nginx->url('/generate-video');
my $user = customer($pg, 10);
my %order = (user_id => $user, model_id => 'vision-1', prompt => 'p');
my @changes = ([prompt => 'q'], [model_id => 'vision-2'], [duration => 6],
    [aspect_ratio => '1:1'], [provider => 'fal.ai']);


sub ask {
    my ($key, %change) = @_;
    return post($url, { %order, %change }, { 'Idempotency-Key' => $key });
}

sub is_replay {
    my ($answer, $first, $what) = @_;
    is("$answer->{status} $answer->{body}", "$first->{status} $first->{body}",
        "$what: the same answer");
    is($answer->{headers}{'x-idempotent-replay'}, 'true', "$what: a replay");
}


# once

my $first = ask('one');
is($first->{status}, 200, 'accepted');
ok(!exists $first->{headers}{'x-idempotent-replay'}, 'no replay');
is($pg->value("SELECT (job_id = '$first->{json}{job_id}') || ' '
    || http_status || ' ' || (expires_at IS NULL) FROM idempotency_log
    WHERE idempotency_key LIKE 'generate:%'"), 'true 200 true',
    'the key is bound to its job, and kept while that is open');

# again

my $before = everything($pg);
is_replay(ask('one'), $first, 'again');
is_replay(ask('"one"'), $first, 'quoted');
is_replay(ask('one', duration => 5, aspect_ratio => '16:9'), $first,
    'with the defaults');
is_replay(ask('one', user_id => uc $user, more => 'x'), $first,
    'written otherwise');

# the zone knows the key by now, and has to tell what was paid for too
is(ask('one', @$_)->{status}, 422, "another $_->[0] at once") for @changes;

$nginx->reload(wait => 1);
is_replay(ask('one'), $first, 'after a reload');
$nginx->restart;
is_replay(ask('one'), $first, 'after a restart');

is(everything($pg), $before, 'nothing was written for them');
is(@{ $provider->requests }, 1, 'and the provider not asked');

# once the job has ended: the answer stays what it was

my ($headers, $body) = $provider->signed_webhook(
    id => $provider->requests->[0]{id});
is(post($nginx->url('/video-webhook'), $body, $headers)->{status}, 200,
    'the job is completed');
is_replay(ask('one'), $first, 'of a completed job');
ok($pg->value("SELECT expires_at BETWEEN now() + interval '71 hours' AND
    now() + interval '73 hours' FROM idempotency_log
    WHERE job_id IS NOT NULL"), 'its key is kept for 72 hours now');

# what differs

$before = everything($pg);
for my $change (@changes) {
    my $answer = ask('one', @$change);
    is("$answer->{status} $answer->{json}{code}",
        '422 idempotency_key_mismatch', "another $change->[0]");
}
is(everything($pg), $before, 'they change nothing');

my $other = customer($pg, 1);
my $answer = ask('one', user_id => $other);
is($answer->{status}, 200, "another user's key of the same name");
isnt($answer->{json}{job_id}, $first->{json}{job_id}, 'is another key');
isnt(ask('One')->{json}{job_id}, $first->{json}{job_id}, 'case matters');

# while it runs

$provider->forget;
$provider->next(wait => 1);
my $running = send_request('POST', $url, { 'Idempotency-Key' => 'two',
    'Content-Type' => 'application/json' }, qq({"user_id":"$user",)
    . '"model_id":"vision-1","prompt":"p"}');
$provider->wait_requests(1) or die 'no request';

$answer = ask('two');
is("$answer->{status} $answer->{json}{code}", '409 still_running',
    'it is still running');
is($answer->{headers}{'retry-after'}, 1, 'when to come again');
is(ask('two', prompt => 'q')->{status}, 422, 'a mismatch comes first');
is($pg->value("SELECT lease - since FROM vidgen.attempts
    WHERE state = 'sending'"), '00:01:10',
    'for a minute more than an attempt may last');

is($provider->release, 1, 'the provider answers');
$first = wait_answer($running);
is($first->{status}, 200, 'it is done');
is_replay(ask('two'), $first, 'then');

# many at once

my @answers = many(50, 'POST', $url, { 'Idempotency-Key' => 'three' },
    qq({"user_id":"$user","model_id":"vision-1","prompt":"p"}));
my ($done) = grep { $_->{status} == 200
    && !$_->{headers}{'x-idempotent-replay'} } @answers;
is_deeply([grep { $_->{status} != 409 && ($_->{status} != 200
    || $_->{body} ne $done->{body}) } @answers], [],
    'of 50 at once each is the same answer, or told to come again');
is(@{ $provider->requests }, 2, 'the provider got one');
is_replay(ask('three'), $done, 'and later');

# what failed may be tried again under its key

$provider->next(status => 500);
is(ask('four')->{status}, 502, 'a provider that fails');
is(ask('four')->{status}, 200, 'the key is free again');

$provider->next(status => 422);
$first = ask('five');
is($first->{status}, 422, 'one that refuses the content');
is_replay(ask('five'), $first, 'that is final');
is_replay(post($nginx->url('/two-in-turn'), \%order,
    { 'Idempotency-Key' => 'five' }), $first, 'for a second location too');

is(balance($pg, $user), 10 - 5, 'five jobs were paid');
is_deeply([wrong_books($pg)], [], 'the books are right');
