#!/usr/bin/perl

# Webhooks that say nothing that may be believed: an unknown word, a success
# without its result, a success or a failure by "*" alone where the provider can
# be asked.
# They are answered 200, change no status, and make the attempt due for a poll.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::PP;
use Test::More;

use VidgenTest::Books qw(customer ledger wrong_books);
use VidgenTest::Http qw(post);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $provider = VidgenTest::Provider->new;

my $nginx = VidgenTest::Nginx->new(
    vars => { DB => $pg->edge_conninfo, PROVIDER => $provider->url },
    env  => {
        FAL_BASE_URL       => $provider->url,
        FAL_API_KEY        => 'test-api-key',
        FAL_WEBHOOK_SECRET => $provider->secret,
    },
    config => <<'EOT')->start;
%%GLOBALS%%

events { }

http {
    %%HTTP%%

    vidgen_database "%%DB%%" timeout=1m;
    vidgen_monitor  off;
    include         %%PROVIDERS%%/fal.conf;

    vidgen_provider told {
        base  %%PROVIDER%%;

        submit {
            url     $vidgen_base/new;
            body    /webhook_url  $vidgen_webhook_url;
            job_id  /request_id;
        }

        webhook {
            signature  hmac-sha256 header=X-Signature encoding=hex;
            secret     env:FAL_WEBHOOK_SECRET;
            job_id     /request_id;
            status     /status  OK=completed ERROR=failed *=failed;
        }
    }

    vidgen_provider asked {
        base  %%PROVIDER%%;

        submit {
            url     $vidgen_base/new;
            body    /webhook_url  $vidgen_webhook_url;
            job_id  /request_id;
        }

        poll {
            url        $vidgen_base/jobs/$vidgen_provider_job_id;
            status     /status;
            video_url  /url;
        }

        webhook {
            signature  hmac-sha256 header=X-Signature encoding=hex;
            secret     env:FAL_WEBHOOK_SECRET;
            job_id     /request_id;
            status     /status  OK=completed ERROR=failed *=failed;
        }
    }

    server {
        listen 127.0.0.1:%%PORT%%;

        vidgen_webhook_url            http://127.0.0.1:%%PORT%%/video-webhook;
        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;

        location = /fal.ai        { vidgen_generate fal.ai; }
        location = /told          { vidgen_generate told; }
        location = /asked         { vidgen_generate asked; }
        location = /video-webhook { vidgen_webhook; }
    }
}
EOT

my $user = customer($pg, 100);

# what it is, the provider, the members beside the id
my @no_verdict = (
    ['an unknown word',      'fal.ai', { status => 'exploded' }],
    ['the wrong case',       'fal.ai', { status => 'COMPLETED',
                                 output => { video_url => 'https://x/v' } }],
    ['an empty word',        'fal.ai', { status => '' }],
    ['no word',              'fal.ai', {}],
    ['a null word',          'fal.ai', { status => undef }],
    ['an object as word',    'fal.ai', { status => { a => 'completed' } }],
    ['completed, no URL',    'fal.ai', { status => 'completed' }],
    ['completed, empty URL', 'fal.ai', { status => 'completed',
                                 output => { video_url => '' } }],
    ['completed, null URL',  'fal.ai', { status => 'completed',
                                 output => { video_url => undef } }],
    ['completed, no object', 'fal.ai', { status => 'completed',
                                 output => 'https://x/v' }],
    ['no word, no map',      'told', {}],
    ['completed, never a URL', 'asked', { status => 'OK' }],
    ['failed by "*"',        'asked', { status => 'exploded' }],
);

# and what the job becomes
my @verdict = (
    ['failed by "*", no poll', 'told', { status => 'exploded' }, 'failed'],
    ['failed by its word',     'told', { status => 'ERROR' }, 'failed'],
    ['completed by its word',  'told', { status => 'OK' }, 'completed'],
    ['failed, with a poll',    'asked', { status => 'ERROR' }, 'failed'],
    ['a word of ours',         'told', { status => 'processing' },
        'processing'],
    ['failed by itself',       'fal.ai', { status => 'failed' }, 'failed'],
    ['a number as error',      'fal.ai', { status => 'failed', error => 7 },
        'failed'],
);

plan tests => 6 * @no_verdict + 2 * @verdict + 2;


sub order {
    my ($name) = @_;
    my $answer = post($nginx->url("/$name"), { user_id => $user,
        model_id => 'vision-1', prompt => 'p' });
    my $got = $provider->requests->[-1];
    my ($url) = $got->{body} =~ /"webhook_url":"([^"]+)"/;
    return ($answer->{json}{job_id}, $got->{id}, $url);
}

sub webhook {
    my ($url, $id, $members) = @_;
    my ($headers, $body) = $provider->signed_webhook(
        body => JSON::PP->new->utf8->encode({ request_id => $id, %$members }));
    my $got = post($url, $body, $headers);
    return "$got->{status} $got->{json}{job_id} "
        . ($got->{headers}{'x-idempotent-replay'} // 'first');
}

sub attempt {
    my ($job) = @_;
    return $pg->value("SELECT concat_ws(', ', state, progress,
        coalesce(video_url, 'no URL'), coalesce(error, 'no error'),
        CASE WHEN due IS NULL THEN 'not due'
             WHEN due <= now() THEN 'due' ELSE 'later' END)
        FROM vidgen.attempts WHERE job_id = '$job'");
}

sub status {
    my ($job) = @_;
    return $pg->value("SELECT status FROM video_jobs WHERE id = '$job'");
}


for my $case (@no_verdict) {
    my ($what, $name, $members) = @$case;
    my ($job, $id, $url) = order($name);

    is(webhook($url, $id, $members), "200 $job first", $what);
    is(webhook($url, $id, $members), "200 $job first", "$what, again");
    is(attempt($job), 'accepted, queued, no URL, no error, due',
        "$what: the attempt is due");
    is(status($job) . ', ' . ledger($pg, $job), 'queued, hold 1',
        "$what: the job is open");
    is(webhook($url, $id, { status => 'failed', error => 'x' }),
        "200 $job first", "$what, then a verdict");
    is(attempt($job), 'failed, queued, no URL, '
        . ($name eq 'fal.ai' ? 'x' : 'no error') . ', not due',
        "$what: which counts");
}

for my $case (@verdict) {
    my ($what, $name, $members, $status) = @$case;
    my ($job, $id, $url) = order($name);

    is(webhook($url, $id, $members), "200 $job first", $what);
    is(status($job), $status, "$what: $status");
}

is($pg->value("SELECT count(*) FROM idempotency_log"),
    @no_verdict + @verdict - 1, 'only verdicts are logged');
is_deeply([wrong_books($pg)], [], 'the books are right');
