#!/usr/bin/perl

# What nobody else ends, the monitor does: attempts whose worker died, unknown
# ones, refunds that are due, keys that have expired.  A result that comes
# after all is late.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 21;

use VidgenTest::Books qw(balance customer ledger wrong_books);
use VidgenTest::Http qw(post);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Util qw(wait_for);

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $provider = VidgenTest::Provider->new;
my $user = customer($pg, 100);

my $nginx = VidgenTest::Nginx->new(
    vars => { DB => $pg->edge_conninfo, BASE => $provider->url },
    env  => { HOOK_SECRET => $provider->secret, VIDGEN_SECRET => 'capability' },
    config => <<'EOT')->start;
%%GLOBALS%%
events { }
http {
    %%HTTP%%
    vidgen_database    "%%DB%%";
    vidgen_monitor     interval=1h unknown=3s;
    vidgen_idempotency ttl=1s;
    vidgen_secret      env:VIDGEN_SECRET;

    vidgen_provider one {
        submit  { url %%BASE%%/one; body /webhook_url $vidgen_webhook_url;
                  job_id /request_id; }
        poll    { url %%BASE%%/requests/$vidgen_provider_job_id;
                  status /status; video_url /url; }
        webhook { signature hmac-sha256 header=X-Signature;
                  secret env:HOOK_SECRET; job_id /request_id;
                  status /status; video_url /output/video_url; }
    }

    server {
        listen 127.0.0.1:%%PORT%%;
        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;
        vidgen_attempt_timeout        1s;
        vidgen_webhook_url            http://127.0.0.1:%%PORT%%/hook;
        location = /generate-video    { vidgen_generate; }
        location = /hook              { vidgen_webhook; }
    }
}
EOT

sub generate {
    my (%headers) = @_;
    return post($nginx->url('/generate-video'),
        { user_id => $user, model_id => 'm', prompt => 'p' }, \%headers);
}

my ($hook, $headers, $body);

sub webhook {
    my $answer = post($hook, $body, $headers);
    return "$answer->{status} $answer->{json}{job_id} "
        . ($answer->{headers}{'x-idempotent-replay'} // 'first');
}

sub status {
    my ($job) = @_;
    return $pg->value("SELECT status FROM video_jobs WHERE id = '$job'");
}


# a provider that may have it, and is never heard of again

$provider->next(hang => 1);
my $answer = generate();
is($answer->{status}, 202, 'the provider may have it');
my $job = $answer->{json}{job_id};
is(ledger($pg, $job), 'hold 1', 'held');
ok((wait_for { status($job) eq 'failed' }), 'given up as lost');
is(ledger($pg, $job), 'hold 1, refund 1', 'and returned');
is(balance($pg, $user), 100, 'all of it');
ok($nginx->wait_log(qr/\[warn\].*1 attempts are given up as lost/), 'a line');


# it is heard of all the same, by the URL that it was given

($hook) = $provider->requests->[-1]{body} =~ /"webhook_url":"([^"]+)"/;
($headers, $body) = $provider->signed_webhook(id => 'never-told');

is(webhook(), "200 $job first", 'its webhook');
is($pg->value("SELECT concat_ws(' ', state, late, provider_job_id, video_url)
    FROM vidgen.attempts WHERE job_id = '$job'"),
    'completed t never-told https://cdn.test/never-told.mp4',
    'is kept, late, on the attempt');
ok($nginx->wait_log(qr/\[error\] .*vidgen: .* late: .*job "$job"/),
    'and logged as money lost');
is(webhook(), "200 $job true", 'again');
is(status($job), 'failed', 'the job stays failed');
is(ledger($pg, $job), 'hold 1, refund 1', 'refunded once');
is(balance($pg, $user), 100, 'nothing is taken again');
is(scalar(grep { $_->{method} eq 'GET' } @{ $provider->requests }), 0,
    'without an id there was nothing to poll');


# an attempt whose worker died

$provider->next(hang => 1);
$job = generate()->{json}{job_id};
$pg->query("UPDATE vidgen.attempts SET state = 'sending',
    lease = now() - interval '1 s' WHERE job_id = '$job'");
ok((wait_for { $pg->value("SELECT state FROM vidgen.attempts
    WHERE job_id = '$job'") eq 'unknown' }), 'it counts as unknown');
ok((wait_for { status($job) eq 'failed' }), 'then as lost');
is_deeply([wrong_books($pg)], [], 'the books are right');


# a refund that its function refuses

my $refund = $pg->value("SELECT pg_get_functiondef(
    'vidgen.refund_credits(uuid, integer, uuid)'::regprocedure)");
$pg->query(<<'SQL');
CREATE OR REPLACE FUNCTION vidgen.refund_credits(p_user uuid,
    p_amount integer, p_job uuid)
RETURNS void LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'closed for the day'; END $$
SQL
$provider->next(hang => 1);
$job = generate()->{json}{job_id};
ok((wait_for { status($job) eq 'failed' }), 'the job has ended');
ok($nginx->wait_log(qr/\[crit\].*1 refunds are due/), 'the refund is due');
$pg->query($refund);
ok((wait_for { !wrong_books($pg) }), 'it is made when it can be');


# keys that have expired

$provider->next(status => 422);
generate('Idempotency-Key' => 'once');
ok((wait_for { $pg->value("SELECT count(*) FROM idempotency_log
    WHERE idempotency_key LIKE 'generate:%'") == 0 }), 'keys expire');
