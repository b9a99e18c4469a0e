#!/usr/bin/perl

# A webhook that is faster than the provider's answer: its job is not recorded
# under the provider's id yet.  It is applied once all the same.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::PP;
use Test::More tests => 75;

use VidgenTest::Books qw(balance customer everything ledger wrong_books);
use VidgenTest::Edge;
use VidgenTest::Http qw(get post send_request wait_answer);
use VidgenTest::Postgres;
use VidgenTest::Provider;

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $provider = VidgenTest::Provider->new;

my $nginx = VidgenTest::Edge->new(
    db       => $pg->edge_conninfo,
    database => 'timeout=1m',
    workers  => 2,
    server   => 'vidgen_attempt_timeout 60s; '
        . 'vidgen_next_provider_timeout 60s;',
    fal      => $provider)->start;

my $user = customer($pg, 20);
my $plain = $nginx->url('/video-webhook');
my $id = 0;


# A generation whose provider has it, and waits with its answer: the client's
# call, the job, the id it is going to get, and the URL of its webhook.
sub begin {
    my (%headers) = @_;

    my $asked = @{ $provider->requests };
    my $name = 'early-' . ++$id;
    $provider->next(wait => 1, body => { request_id => $name });
    my $call = send_request('POST', $nginx->url('/generate-video'),
        { 'Content-Type' => 'application/json', %headers },
        qq({"user_id":"$user","model_id":"vision-1","prompt":"p"}));

    my $got = $provider->wait_requests($asked + 1) or die 'no request';
    my ($url) = $got->[-1]{body} =~ /"webhook_url":"([^"]+)"/;
    my ($attempt) = $url =~ /attempt=([-0-9a-f]+)/;
    my $job = $pg->value("SELECT job_id FROM vidgen.attempts
        WHERE id = '$attempt'");
    return ($call, $job, $name, $url);
}

sub webhook {
    my ($url, %args) = @_;
    my ($headers, $body) = $provider->signed_webhook(%args);
    my $got = post($url, $body, $headers);
    return "$got->{status} $got->{body}"
        . ($got->{headers}{'x-idempotent-replay'} ? ' replay' : '');
}

sub success { return qq(200 {"success":true,"job_id":"$_[0]"}) }
my $parked = '200 {"success":true,"job_id":null}';

sub job {
    my ($job) = @_;
    return $pg->value("SELECT concat_ws(' ', j.status,
        coalesce(j.provider_job_id, '-'), coalesce(j.video_url, '-'),
        coalesce(j.error_message, '-'), a.state)
        FROM video_jobs j JOIN vidgen.attempts a ON a.job_id = j.id
        WHERE j.id = '$job'");
}

sub answer {
    my ($call) = @_;
    $provider->release == 1 or die 'nobody waits';
    my $got = wait_answer($call);
    return "$got->{status} $got->{body}";
}

# The client comes again with its key.
sub again {
    my ($job, $key) = @_;
    my $got = post($nginx->url('/generate-video'), { user_id => $user,
        model_id => 'vision-1', prompt => 'p' }, { 'Idempotency-Key' => $key });
    return failure($job, "$got->{status} $got->{body}")
        . ($got->{headers}{'x-idempotent-replay'} ? ' replay' : '');
}

sub accepted {
    my ($job, $status) = @_;
    return qq(200 {"job_id":"$job","provider":"fal.ai",)
        . qq("status":"$status","estimated_time":120});
}

sub failure {
    my ($job, $answer) = @_;
    my ($status, $text) = $answer =~ /^(\d+) (.*)/s;
    my $said = JSON::PP->new->utf8->decode($text);
    return "$status $said->{code} "
        . (defined $said->{error} && length $said->{error} ? 'why' : '-')
        . ($said->{job_id} eq $job ? ' job' : ' other');
}


# ---- by URL: the attempt is known ------------------------------------------

my ($call, $job, $name, $url) = begin();
is(webhook($url, id => $name), success($job), 'completed, by URL');
is(job($job), "completed $name https://cdn.test/$name.mp4 - completed",
    'the job is completed');
is(answer($call), accepted($job, 'completed'), "the client's answer");
is(job($job), "completed $name https://cdn.test/$name.mp4 - completed",
    'the job stays so');
is(webhook($url, id => $name), success($job) . ' replay', 'again');
is(webhook($plain, id => $name), success($job) . ' replay', 'by its id');
is(ledger($pg, $job), 'hold 1', 'its hold is spent');

($call, $job, $name, $url) = begin();
is(webhook($url, id => $name, status => 'failed'), success($job),
    'failed, by URL');
is(ledger($pg, $job), 'hold 1, refund 1', 'it is refunded');
is(failure($job, answer($call)), '502 provider_failed why job',
    "the client's answer");
is(job($job), "failed $name - out of memory failed", 'the job is failed');
is(ledger($pg, $job), 'hold 1, refund 1', 'refunded once');

($call, $job, $name, $url) = begin();
is(webhook($url, id => $name, status => 'processing'), success($job),
    'processing, by URL');
is(answer($call), accepted($job, 'processing'), "the client's answer");
is(job($job), "processing $name - - accepted", 'the job is in work');
is(webhook($url, id => $name), success($job), 'then completed');

# without an id in the body

($call, $job, $name, $url) = begin();
is(webhook($url, body => '{"status":"completed","output":{"video_url":'
    . '"https://cdn.test/v"}}'), success($job), 'by URL without an id');
is(answer($call), accepted($job, 'completed'), "the client's answer");
is($pg->value("SELECT provider_job_id FROM vidgen.attempts
    WHERE job_id = '$job'"), $name, 'the attempt learns its id afterwards');

is($pg->value('SELECT count(*) FROM vidgen.parked'), 0,
    'none of these was parked');

# ---- by the provider's id only: parked -------------------------------------

($call, $job, $name, $url) = begin();
is(webhook($plain, id => $name), $parked, 'completed, by its id');
is(webhook($plain, id => $name), $parked, 'again: not a replay');
is_deeply($pg->query('SELECT provider, provider_job_id, status, video_url,
        adopted FROM vidgen.parked'),
    [['fal.ai', $name, 'completed', "https://cdn.test/$name.mp4", undef]],
    'it is parked once');
is(job($job), 'queued - - - sending', 'the job does not know it');

is(answer($call), accepted($job, 'completed'), "the client's answer");
is(job($job), "completed $name https://cdn.test/$name.mp4 - completed",
    'the job has taken it');
is($pg->value("SELECT count(*) FROM vidgen.parked WHERE adopted
    BETWEEN now() - interval '1 minute' AND now()"), 1, 'it is adopted');

my $before = everything($pg);
is(webhook($plain, id => $name), success($job) . ' replay', 'again');
is(webhook($url, id => $name), success($job) . ' replay', 'and by URL');
is(everything($pg), $before, 'nothing changes');

# a failure

($call, $job, $name, $url) = begin();
is(webhook($plain, id => $name, status => 'failed'), $parked,
    'failed, by its id');
is(ledger($pg, $job), 'hold 1', 'not refunded yet');
is(failure($job, answer($call)), '502 provider_failed why job',
    "the client's answer");
is(job($job), "failed $name - out of memory failed", 'the job is failed');
is(ledger($pg, $job), 'hold 1, refund 1', 'it is refunded');
is(webhook($plain, id => $name, status => 'failed'),
    success($job) . ' replay', 'again');
is(ledger($pg, $job), 'hold 1, refund 1', 'not refunded again');

# a failure whose refund is refused

my $refund = $pg->value("SELECT pg_get_functiondef(
    'vidgen.refund_credits(uuid, integer, uuid)'::regprocedure)");
$pg->query(<<'SQL');
CREATE OR REPLACE FUNCTION vidgen.refund_credits(p_user uuid,
    p_amount integer, p_job uuid)
RETURNS void LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'closed for the day'; END $$
SQL
my @due;
for my $by_url (0, 1) {
    my $how = $by_url ? 'by URL' : 'by its id';
    my $key = "due $by_url";
    ($call, $job, $name, $url) = begin('Idempotency-Key' => $key);
    is(webhook($by_url ? $url : $plain, id => $name, status => 'failed'),
        $by_url ? success($job) : $parked, "failed $how, and no refund");
    is(failure($job, answer($call)), '504 outcome_unknown why job',
        "the client's answer");
    is(job($job), "failed $name - out of memory failed", 'the job is failed');
    is(() = $nginx->error_log =~
        /\[crit\].*"$job" failed and its refund is due: .*closed/g, 1,
        'it is logged once');
    is(again($job, $key), '504 outcome_unknown why job',
        'its key says no more, and it is no replay');
    push @due, [$job, $key];
}
$pg->query($refund);
$pg->query("SELECT * FROM vidgen.sweep('1 hour', '1 day', 100)");
is(again(@$_), '502 provider_failed why job replay',
    'the credits are back, and that is said') for @due;

# progress, and then the end, both before the answer

($call, $job, $name, $url) = begin();
is(webhook($plain, id => $name, status => 'processing'), $parked,
    'processing, by its id');
is(webhook($plain, id => $name), $parked, 'then completed');
is(answer($call), accepted($job, 'completed'), "the client's answer");
is(job($job), "completed $name https://cdn.test/$name.mp4 - completed",
    'the job is completed');

# one that says nothing: the attempt is due for a poll

($call, $job, $name, $url) = begin();
is(webhook($plain, id => $name, status => 'exploded'), $parked,
    'an unknown word');
is(answer($call), accepted($job, 'queued'), "the client's answer");
is($pg->value("SELECT state || ' ' || (due <= now()) FROM vidgen.attempts
    WHERE job_id = '$job'"), 'accepted true', 'the attempt is due');

# with an Idempotency-Key the answers are stored as they were given

my %key = ('Idempotency-Key' => 'k-1', 'Content-Type' => 'application/json');
my @again = ($nginx->url('/generate-video'),
    qq({"user_id":"$user","model_id":"vision-1","prompt":"p"}));
($call, $job, $name, $url) = begin(%key);
is(webhook($plain, id => $name), $parked, 'completed, under a key');
my $first = answer($call);
is($first, accepted($job, 'completed'), "the client's answer");
my $got = post(@again, \%key);
is("$got->{status} $got->{body}", $first, 'its replay');
is($got->{headers}{'x-idempotent-replay'}, 'true', 'is one');

$key{'Idempotency-Key'} = 'k-2';
($call, $job, $name, $url) = begin(%key);
is(webhook($url, id => $name, status => 'failed'), success($job),
    'failed, under a key');
$first = answer($call);
is(failure($job, $first), '502 provider_failed why job',
    "the client's answer");
my $asked = @{ $provider->requests };
$got = post(@again, \%key);
is(failure($job, "$got->{status} $got->{body}"),
    '502 provider_failed why job', 'its replay says the same job');
is(@{ $provider->requests }, $asked, 'which is not submitted again');

# ---- what does not wait ----------------------------------------------------

# a provider whose answer is lost: only the URL tells, and then it is not
# parked for another

$provider->next(drop => 'after');
$got = post(@again);
is($got->{status}, 202, "an answer is lost");
my $lost = $got->{json}{job_id};
is(webhook($plain, id => 'lost-1'), $parked, 'its webhook without the URL');
($url) = $provider->requests->[-1]{body} =~ /"webhook_url":"([^"]+)"/;

($call, $job, $name) = begin();
is(webhook($plain, id => $name), $parked, "another's webhook");
is(answer($call), accepted($job, 'completed'), 'each takes its own');
like(job($lost), qr/^processing - - - unknown$/, 'the first is still open');
is(webhook($url, id => 'lost-1', video_url => 'https://cdn.test/2'),
    success($lost) . ' replay', 'until its URL comes, and says whose it is');
is(job($lost), 'completed lost-1 https://cdn.test/lost-1.mp4 - completed',
    'the job takes what was parked');

is(webhook($plain, id => 'nobody'), '404 {"error":"there is no such job",'
    . '"code":"unknown_job"}', 'nobody waits: nothing is parked');

is(get($nginx->url("/jobs/$lost"))->{json}{status}, 'completed',
    'as its user sees it');
is_deeply([wrong_books($pg)], [], 'the books are right');
is(balance($pg, $user), 20 - $pg->value("SELECT count(*) FROM video_jobs
    WHERE status <> 'failed'"), 'the balance');
