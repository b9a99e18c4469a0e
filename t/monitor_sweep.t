#!/usr/bin/perl

# What nobody else ends, the monitor does: attempts whose worker died, unknown
# ones, refunds that are due, keys that have expired.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 12;

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
    config => <<'EOT')->start;
%%GLOBALS%%
events { }
http {
    %%HTTP%%
    vidgen_database    "%%DB%%";
    vidgen_monitor     interval=1h unknown=2s;
    vidgen_idempotency ttl=1s;

    vidgen_provider one {
        submit  { url %%BASE%%/one; job_id /request_id; }
        poll    { url %%BASE%%/requests/$vidgen_provider_job_id;
                  status /status; video_url /url; }
    }

    server {
        listen 127.0.0.1:%%PORT%%;
        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;
        vidgen_attempt_timeout        300ms;
        location = /generate-video    { vidgen_generate; }
    }
}
EOT

sub generate {
    my (%headers) = @_;
    return post($nginx->url('/generate-video'),
        { user_id => $user, model_id => 'm', prompt => 'p' }, \%headers);
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
ok($nginx->wait_log(qr/\[warn\].*1 attempts are given up as lost/), 'a line');


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
