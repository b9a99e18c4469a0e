#!/usr/bin/perl

# Webhooks that come after their job's end and say something else: answered
# 200, and the job stays what it is.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 29;

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
    server   => 'vidgen_retry attempts=1;',
    fal      => $provider)->start;

my $user = customer($pg, 10);
my $answer;


sub order {
    $answer = post($nginx->url('/generate-video'), { user_id => $user,
        model_id => 'vision-1', prompt => 'p' });
    my $got = $provider->requests->[-1];
    my ($url) = $got->{body} =~ /"webhook_url":"([^"]+)"/;
    return ($answer->{json}{job_id}, $got->{id}, $url);
}

sub webhook {
    my ($url, %args) = @_;
    my ($headers, $body) = $provider->signed_webhook(%args);
    my $got = post($url, $body, $headers);
    return "$got->{status} $got->{json}{job_id} "
        . ($got->{headers}{'x-idempotent-replay'} // 'first');
}

sub row {
    my ($table, $job) = @_;
    my $id = $table eq 'video_jobs' ? 'id' : 'job_id';
    return $pg->value("SELECT t::text FROM $table t WHERE $id = '$job'");
}

sub attempt {
    my ($job) = @_;
    return $pg->value("SELECT concat_ws(' ', state, late,
        coalesce(video_url, '-'), coalesce(error, '-')) FROM vidgen.attempts
        WHERE job_id = '$job'");
}


# a success after the failure was believed and refunded

my ($job, $id, $url) = order();
is(webhook($url, id => $id, status => 'failed'), "200 $job first", 'failed');
my $row = row('video_jobs', $job);

is(webhook($url, id => $id), "200 $job first", 'a late success');
is(row('video_jobs', $job), $row, 'the job stays failed');
is(ledger($pg, $job), 'hold 1, refund 1', 'and refunded');
is(attempt($job), "completed t https://cdn.test/$id.mp4 -",
    'the success is kept on its attempt');
ok($nginx->wait_log(qr/\[error\] .*vidgen: .* late: .*job "$job"/),
    'and logged as money lost');
is(webhook($url, id => $id), "200 $job true", 'again');
is(webhook($url, id => $id, status => 'failed'), "200 $job true",
    'the failure again');
is(attempt($job), "completed t https://cdn.test/$id.mp4 -",
    'the attempt keeps its success');

# a failure, or progress, after the success

($job, $id, $url) = order();
is(webhook($url, id => $id), "200 $job first", 'completed');
$row = row('video_jobs', $job);
my $attempt = row('vidgen.attempts', $job);

is(webhook($url, id => $id, status => 'failed'), "200 $job first",
    'a failure that contradicts it');
is(webhook($url, id => $id, status => 'failed'), "200 $job true", 'again');
is(webhook($url, id => $id, status => 'processing'), "200 $job first",
    'progress');
is(webhook($url, id => $id, status => 'processing'), "200 $job first",
    'again');
is(row('video_jobs', $job), $row, 'the job stays completed');
is(row('vidgen.attempts', $job), $attempt, 'and so does the attempt');
is(ledger($pg, $job), 'hold 1', 'no refund');
ok($nginx->wait_log(qr/\[warn\] .*vidgen: .* ignored: status "failed".*$job/),
    'it is logged');

# progress after a failure

($job, $id, $url) = order();
is(webhook($url, id => $id, status => 'failed'), "200 $job first", 'failed');
$row = row('video_jobs', $job);
is(webhook($url, id => $id, status => 'processing'), "200 $job first",
    'progress');
is(row('video_jobs', $job), $row, 'the job stays failed');

# a success of an attempt that was thought to be refused, the job ended

$provider->next(status => 500, body => { request_id => 'refused-1' });
($job, $id, $url) = order();
is($answer->{status}, 502, 'the provider said no');
is(balance($pg, $user), 9, 'the credits are back');
is(webhook($url, id => 'refused-1'), "200 $job first", 'it delivers');
is(attempt($job), 'completed t https://cdn.test/refused-1.mp4 -',
    'which is late');
is($pg->value("SELECT provider_job_id FROM vidgen.attempts
    WHERE job_id = '$job'"), 'refused-1', 'the id is learnt');
is($pg->value("SELECT status || ' ' || coalesce(video_url, '-')
    FROM video_jobs WHERE id = '$job'"), 'failed -', 'the job stays failed');
is(balance($pg, $user), 9, 'nothing is taken again');

is_deeply([wrong_books($pg)], [], 'the books are right');
