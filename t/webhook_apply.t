#!/usr/bin/perl

# A webhook's result is applied to its job once: completed, failed with its
# refund, and progress on the way.  Repeats get the first answer.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 41;

use VidgenTest::Books qw(balance customer everything ledger wrong_books);
use VidgenTest::Edge;
use VidgenTest::Http qw(post);
use VidgenTest::Postgres;
use VidgenTest::Provider;

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $provider = VidgenTest::Provider->new;

my $nginx = VidgenTest::Edge->new(
    db       => $pg->edge_conninfo,
    database => 'timeout=1m',
    fal      => $provider)->start;

my $user = customer($pg, 10);
$pg->query("INSERT INTO models (id, credits_per_generation)
    VALUES ('vision-1', 3)");


# A new job, its provider's id, and the URL that its provider got.
sub order {
    my $answer = post($nginx->url('/generate-video'), { user_id => $user,
        model_id => 'vision-1', prompt => 'p' });
    my $got = $provider->requests->[-1];
    my ($url) = $got->{body} =~ /"webhook_url":"([^"]+)"/;
    return ($answer->{json}{job_id}, $got->{id}, $url);
}

sub webhook {
    my ($url, %args) = @_;
    my ($headers, $body) = $provider->signed_webhook(%args);
    return post($url, $body, $headers);
}

sub is_answer {
    my ($answer, $job, $replay, $what) = @_;
    is("$answer->{status} $answer->{body}",
        qq(200 {"success":true,"job_id":"$job"}), $what);
    is($answer->{headers}{'x-idempotent-replay'}, $replay ? 'true' : undef,
        "$what: " . ($replay ? 'a replay' : 'no replay'));
}

sub job_row {
    my ($job) = @_;
    return join ' ', map { $_ // '-' } @{ $pg->query("SELECT j.status,
        j.provider_name, j.provider_job_id, j.video_url, j.error_message,
        j.completed_at BETWEEN now() - interval '1 minute' AND now(),
        a.state, a.progress, a.late, a.video_url, a.error
        FROM video_jobs j JOIN vidgen.attempts a ON a.job_id = j.id
        WHERE j.id = '$job'")->[0] };
}


# completed

my ($job, $id, $url) = order();
my $answer = webhook($url, id => $id, video_url => 'https://cdn.test/v?a=1');
is_answer($answer, $job, 0, 'completed');
is($answer->{headers}{'content-type'}, 'application/json', 'JSON');
is(job_row($job), "completed fal.ai $id https://cdn.test/v?a=1 - t"
    . ' completed queued f https://cdn.test/v?a=1 -', 'the job is completed');
is(ledger($pg, $job), 'hold 3', 'its hold is spent');
is(balance($pg, $user), 7, 'the balance');
is_deeply($pg->query("SELECT idempotency_key = 'webhook:' || a.id
        || ':completed', response->>'success', response->>'job_id' = '$job',
        length(fingerprint), expires_at BETWEEN now() + interval '71 hours'
        AND now() + interval '73 hours'
    FROM idempotency_log, vidgen.attempts a"), [[qw(t true t 64 t)]],
    'it is logged once');

# the same again

my $before = everything($pg);
is_answer(webhook($url, id => $id, video_url => 'https://cdn.test/v?a=1'),
    $job, 1, 'the same again');
is_answer(webhook($url, id => $id, video_url => 'https://cdn.test/other'),
    $job, 1, 'with another body');
is_answer(webhook($nginx->url('/video-webhook'), id => $id,
    video_url => 'https://cdn.test/v?a=1'), $job, 1, 'to the plain URL');
is(everything($pg), $before, 'nothing changes');

# failed

($job, $id, $url) = order();
is(balance($pg, $user), 4, 'another one is paid');
is_answer(webhook($url, id => $id, status => 'failed',
    error => "no\x01GPU \xe9"), $job, 0, 'failed');
is(job_row($job), "failed fal.ai $id - no GPU \xc3\xa9 - failed queued f -"
    . " no GPU \xc3\xa9", 'the job is failed');
is(ledger($pg, $job), 'hold 3, refund 3', 'it is refunded');
is(balance($pg, $user), 7, 'the balance is what it was');

$before = everything($pg);
is_answer(webhook($url, id => $id, status => 'failed',
    error => "no\x01GPU \xe9"), $job, 1, 'failed again');
is_answer(webhook($url, id => $id, status => 'failed', error => 'other'),
    $job, 1, 'failed again with another body');
is(everything($pg), $before, 'and not refunded again');

# progress, which is not the end

($job, $id, $url) = order();
is_answer(webhook($url, id => $id, status => 'queued'), $job, 0, 'queued');
is(job_row($job), "queued fal.ai $id - - - accepted queued f - -",
    'the job is queued');

is_answer(webhook($url, id => $id, status => 'processing'), $job, 0,
    'processing');
my $processing = "processing fal.ai $id - - - accepted processing f - -";
is(job_row($job), $processing, 'the job is in work');

is_answer(webhook($url, id => $id, status => 'processing'), $job, 0,
    'processing again');
is_answer(webhook($url, id => $id, status => 'queued'), $job, 0,
    'queued again');
is(job_row($job), $processing, 'it does not go back');
is($pg->value("SELECT count(*) FROM idempotency_log WHERE idempotency_key
    LIKE '%processing' OR idempotency_key LIKE '%queued'"), 0,
    'progress is not logged');

is_answer(webhook($url, id => $id), $job, 0, 'completed after that');
is(job_row($job), "completed fal.ai $id https://cdn.test/$id.mp4 - t"
    . " completed processing f https://cdn.test/$id.mp4 -",
    'the job is completed');

is_deeply([wrong_books($pg)], [], 'the books are right');
