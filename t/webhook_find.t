#!/usr/bin/perl

# Whose result a webhook is: the attempt in its URL, the provider's job id,
# jobs that the user's own application made; and never a guess.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA qw(hmac_sha256_hex);
use JSON::PP;
use Test::More tests => 54;

use VidgenTest::Books qw(customer everything ledger wrong_books);
use VidgenTest::Http qw(post);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Util qw(uuid);

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $fal = VidgenTest::Provider->new(secret => 'fal-secret');
my $runway = VidgenTest::Provider->new(secret => 'runway-secret');

my $nginx = VidgenTest::Nginx->new(
    vars => { DB => $pg->edge_conninfo },
    env  => {
        FAL_BASE_URL          => $fal->url,
        FAL_API_KEY           => 'test-api-key',
        FAL_WEBHOOK_SECRET    => $fal->secret,
        RUNWAY_BASE_URL       => $runway->url,
        RUNWAY_API_KEY        => 'test-api-key',
        RUNWAY_WEBHOOK_SECRET => $runway->secret,
        VIDGEN_SECRET         => 'test-token-secret',
    },
    config => <<'EOT')->start;
%%GLOBALS%%

events { }

http {
    %%HTTP%%

    vidgen_database "%%DB%%" timeout=1m;
    vidgen_monitor  off;
    vidgen_secret   env:VIDGEN_SECRET;
    include         %%PROVIDERS%%/fal.conf;
    include         %%PROVIDERS%%/runway.conf;

    server {
        listen 127.0.0.1:%%PORT%%;

        vidgen_webhook_url            http://127.0.0.1:%%PORT%%/hook;
        vidgen_retry                  attempts=1;
        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;

        location = /fal.ai { vidgen_generate fal.ai; }
        location = /runway { vidgen_generate runway; }

        location = /hook   { vidgen_webhook; }
        location = /named  { vidgen_webhook runway; }

        location ~ ^/of/([^/]+)$ { vidgen_webhook $1; }
    }
}
EOT

my $user = customer($pg, 100);
my %provider = ('fal.ai' => $fal, runway => $runway);
my $json = JSON::PP->new->utf8->canonical;


# A new job: its id, its attempt's id, and the status of the answer.
sub order {
    my ($name, %answer) = @_;
    my $provider = $provider{$name};
    $provider->next(%answer) if %answer;
    my $got = post($nginx->url("/$name"), { user_id => $user,
        model_id => 'vision-1', prompt => 'p' });
    my ($attempt) = $provider->requests->[-1]{body} =~ /attempt=([-0-9a-f]+)/;
    return ($got->{json}{job_id}, $attempt, $got->{status});
}

# A completed (or failed) webhook as its provider writes and signs it.
sub webhook {
    my ($name, $uri, $id, %opt) = @_;

    my $failed = $opt{failed};
    my $body = $json->encode($name eq 'fal.ai'
        ? { defined $id ? (request_id => $id) : (),
            status => $failed ? 'failed' : 'completed',
            output => { video_url => "https://fal/$name" } }
        : { defined $id ? (id => $id) : (),
            status => $failed ? 'failed' : 'succeeded',
            output_url => "https://runway/$name" });
    my $mac = hmac_sha256_hex($body, $provider{$name}->secret);
    $mac = "sha256=$mac" if $name eq 'runway';

    my $got = post($nginx->url($uri), $body,
        { 'X-Signature' => $mac, %{ $opt{headers} // {} } });
    return "$got->{status} " . ($got->{json}{job_id} // $got->{json}{code})
        . ($got->{headers}{'x-idempotent-replay'} ? ' replay' : '');
}

sub job {
    my ($job) = @_;
    return $pg->value("SELECT concat_ws(' ', status, provider_name,
        coalesce(provider_job_id, '-'), coalesce(video_url, '-'))
        FROM video_jobs WHERE id = '$job'");
}

sub attempt {
    my ($job) = @_;
    return $pg->value("SELECT concat_ws(' ', state, provider,
        coalesce(provider_job_id, '-')) FROM vidgen.attempts
        WHERE job_id = '$job'");
}


# ---- by the attempt in the URL, whose provider's id is not known -----------

my ($job, $attempt, $status) = order('fal.ai', drop => 'after');
is($status, 202, 'the provider got it, but its answer was lost');
is(attempt($job), 'unknown fal.ai -', 'no id');

is(webhook('fal.ai', "/hook?provider=fal.ai&attempt=$attempt", 'lost-1'),
    "200 $job", 'its webhook finds it');
is(job($job), 'completed fal.ai lost-1 https://fal/fal.ai', 'the job');
is(attempt($job), 'completed fal.ai lost-1', 'the id is learnt');
is(webhook('fal.ai', '/hook', 'lost-1'), "200 $job replay",
    'and finds it from now on');

# without an id in the body

($job, $attempt) = order('fal.ai', drop => 'after');
is(webhook('fal.ai', "/hook?provider=fal.ai&attempt=$attempt", undef),
    "200 $job", 'a webhook without an id');
is(job($job), 'completed fal.ai - https://fal/fal.ai', 'the job');

($job, $attempt) = order('fal.ai');
is(webhook('fal.ai', "/hook?provider=fal.ai&attempt=\U$attempt", undef),
    "200 $job", 'one whose attempt has an id');
like(job($job), qr/^completed fal\.ai \S+-\d+ https/, 'the job');

# progress teaches the id as well

($job, $attempt) = order('fal.ai', status => 502);
is(webhook('fal.ai', "/hook?provider=fal.ai&attempt=$attempt", 'gone-2',
    failed => 1), "200 $job", 'a failure of an unknown one');
is(job($job), 'failed fal.ai gone-2 -', 'the job');
is(ledger($pg, $job), 'hold 1, refund 1', 'it is refunded');

# ---- by the provider's job id ----------------------------------------------

($job) = order('fal.ai', body => { request_id => 'by-id' });
is(webhook('fal.ai', '/hook?provider=fal.ai', 'by-id'), "200 $job",
    'the provider of the URL');
($job) = order('fal.ai', body => { request_id => 'by-id-2' });
is(webhook('fal.ai', '/hook', 'by-id-2'), "200 $job", 'the first provider');
($job) = order('runway', body => { id => 'by-id-3' });
is(webhook('runway', '/hook', 'by-id-3',
    headers => { 'X-Provider' => 'runway' }), "200 $job",
    'the provider of the header X-Provider');
($job) = order('runway', body => { id => 'by-id-4' });
is(webhook('runway', '/hook?provider=runway', 'by-id-4',
    headers => { 'X-Provider' => 'fal.ai' }), "200 $job", 'the URL wins');
($job) = order('runway', body => { id => 'by-id-5' });
is(webhook('runway', '/named?provider=fal.ai', 'by-id-5',
    headers => { 'X-Provider' => 'fal.ai' }), "200 $job",
    'the provider of the location wins');
($job) = order('runway', body => { id => 7 });
is(webhook('runway', '/of/runway', '7'), "200 $job",
    'that may be a variable; and a number is a text');
($job) = order('fal.ai', body => { request_id => 'by-id-6' });
is(webhook('fal.ai', '/hook?provider=fal%2Eai&attempt=none', 'by-id-6'),
    "200 $job", 'escapes, and an attempt that is no UUID');
($job) = order('fal.ai', body => { request_id => 'by-id-7' });
is(webhook('fal.ai', '/hook?provider=fal.ai&attempt=' . uuid(), 'by-id-7'),
    "200 $job", 'the id, where the attempt is nobody');

# ---- two providers, one id -------------------------------------------------

my ($one) = order('fal.ai', body => { request_id => 'same' });
my ($two) = order('runway', body => { id => 'same' });
is(webhook('runway', '/hook?provider=runway', 'same'), "200 $two",
    'of two with the same id its own');
is(job($one), 'queued fal.ai same -', "the other's stays open");
is(job($two), 'completed runway same https://runway/runway',
    'its is completed');
is(webhook('fal.ai', '/hook?provider=fal.ai', 'same', failed => 1),
    "200 $one", 'then the other');
is(job($one), 'failed fal.ai same -', 'fails');
is(ledger($pg, $one) . '; ' . ledger($pg, $two),
    'hold 1, refund 1; hold 1', 'and only that is refunded');

# ---- what does not belong together -----------------------------------------

my ($fal_job, $fal_attempt) = order('fal.ai',
    body => { request_id => 'fal-1' });
my ($other_job, $other_attempt) = order('fal.ai',
    body => { request_id => 'fal-2' });
my ($lost_job, $lost_attempt) = order('fal.ai', drop => 'after');
my ($runway_job, $runway_attempt) = order('runway',
    body => { id => 'runway-1' });

my $before = everything($pg);
is(webhook('fal.ai', "/hook?provider=fal.ai&attempt=$fal_attempt", 'fal-2'),
    '401 wrong_job', "one job's URL, another's id");
is(webhook('fal.ai', "/hook?provider=fal.ai&attempt=$fal_attempt", 'fal-9'),
    '401 wrong_job', "a job's URL, nobody's id");
is(webhook('runway', "/hook?provider=runway&attempt=$fal_attempt", 'fal-1'),
    '401 wrong_job', "another provider's attempt");
is(webhook('runway', "/hook?provider=runway&attempt=$fal_attempt", undef),
    '401 wrong_job', 'and without an id');
is(webhook('runway', "/hook?provider=runway&attempt=$lost_attempt", 'new'),
    '401 wrong_job', "another's that has no id yet");
is(webhook('fal.ai', "/hook?provider=fal.ai&attempt=$lost_attempt", 'fal-1'),
    '401 wrong_job', 'an unknown one, with the id of another');
is(webhook('fal.ai', "/hook?provider=runway&attempt=$runway_attempt",
    'runway-1'), '401 bad_signature', "signed by another provider");
is(webhook('runway', '/hook?provider=runway', 'fal-1'), '404 unknown_job',
    "another provider's id");
is(everything($pg), $before, 'nothing changes');

# ---- jobs that the user's own application made -----------------------------

sub own {
    my ($provider, $id, $status) = @_;
    my $own = uuid();
    my $of = uuid();
    $pg->query("INSERT INTO video_jobs (id, user_id, model_id, prompt,
            provider_name, provider_job_id, credits_used, status)
        VALUES ('$own', '$of', 'm', 'p', $provider, '$id', 4, '$status');
        INSERT INTO user_credits (user_id, balance) VALUES ('$of', 6)");
    return ($own, $of);
}

sub credits {
    my ($of) = @_;
    return $pg->value("SELECT balance FROM user_credits
        WHERE user_id = '$of'");
}

my ($own, $of) = own("'fal.ai'", 'own-1', 'processing');
is(webhook('fal.ai', '/hook', 'own-1'), "200 $own", "the application's job");
is(job($own), 'completed fal.ai own-1 https://fal/fal.ai', 'is completed');
is(attempt($own), 'completed fal.ai own-1', 'it has an attempt now');
is(ledger($pg, $own) . '; ' . credits($of), 'hold 4; 6',
    'and a hold, but nothing is taken again');
is(webhook('fal.ai', '/hook', 'own-1'), "200 $own replay", 'again');

($own, $of) = own("'runway'", 'own-2', 'queued');
is(webhook('runway', '/hook?provider=runway', 'own-2', failed => 1),
    "200 $own", 'one that fails');
is(job($own), 'failed runway own-2 -', 'is failed');
is(ledger($pg, $own) . '; ' . credits($of), 'hold 4, refund 4; 10',
    'and refunded');
is(webhook('runway', '/hook?provider=runway', 'own-2', failed => 1),
    "200 $own replay", 'again');
is(credits($of), 10, 'once');

($own) = own('NULL', 'own-3', 'queued');
is(webhook('runway', '/hook?provider=runway', 'own-3'), '404 unknown_job',
    'without a name it is not the second provider\'s');
is(webhook('fal.ai', '/hook', 'own-3'), "200 $own", 'but the first one\'s');
like(job($own), qr/^completed fal\.ai own-3 /, 'whose name it gets');

($own, $of) = own("'fal.ai'", 'own-4', 'failed');
is(webhook('fal.ai', '/hook', 'own-4', failed => 1), "200 $own replay",
    'one that had failed before');
is(credits($of), 6, 'is not refunded again');

is($pg->value("SELECT count(*) FROM vidgen.parked"), 0, 'nothing is parked');
is(job($lost_job), 'processing fal.ai - -', 'what is open stays open');
is_deeply([wrong_books($pg)], [], 'the books are right');
