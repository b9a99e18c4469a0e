#!/usr/bin/perl

# The variables for logs: what each request was about and what became of it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 26;

use VidgenTest::Books qw(customer);
use VidgenTest::Http qw(get post request);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Util qw(uuid wait_for);

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $provider = VidgenTest::Provider->new;

my $nginx = VidgenTest::Nginx->new(
    vars => { DB => $pg->edge_conninfo },
    env  => {
        FAL_BASE_URL       => $provider->url,
        FAL_API_KEY        => 'test-api-key',
        FAL_WEBHOOK_SECRET => $provider->secret,
        VIDGEN_SECRET      => 'test-token-secret',
    },
    config => <<'EOT')->start;
%%GLOBALS%%

events { }

http {
    %%HTTP%%

    log_format vidgen "$uri provider=$vidgen_provider job=$vidgen_job_id "
                      "status=$vidgen_job_status outcome=$vidgen_outcome "
                      "attempts=$vidgen_attempts verified=$vidgen_verified "
                      "replay=$vidgen_replay db=$vidgen_db_time "
                      "model=$vidgen_model key=$vidgen_api_key";
    access_log %%PREFIX%%/vidgen.log vidgen;

    vidgen_database "%%DB%%" timeout=1m;
    vidgen_monitor  off;
    vidgen_secret   env:VIDGEN_SECRET;
    include         %%PROVIDERS%%/fal.conf;

    server {
        listen 127.0.0.1:%%PORT%%;

        vidgen_webhook_url            http://127.0.0.1:%%PORT%%/hook;
        vidgen_retry                  attempts=1;
        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;

        location = /new   { vidgen_generate; }
        location = /hook  { vidgen_webhook; }
        location /jobs/   { vidgen_job; }
        location = /other { return 204; }

        location = /page {
            vidgen_webhook;
            error_page 401 /denied.html;
        }

        location = /denied.html {
            internal;
            return 401 "denied";
        }
    }
}
EOT

my $user = customer($pg, 10);
my $seen = 0;


# The line of the latest request; what the database took is only "time".
sub line {
    my @lines;
    wait_for {
        @lines = split /\n/, $nginx->read_file('vidgen.log');
        @lines > $seen;
    };
    $seen++;
    my $line = $lines[$seen - 1] // '';
    $line =~ s/ model=- key=-$// or $line .= ' (too much)';
    return $line =~ s/db=\d+\.\d{3}$/db=time/r;
}

sub order { return post($nginx->url('/new'), { user_id => $user,
    model_id => 'vision-1', prompt => 'p', @_ }) }

sub webhook {
    my ($uri, %args) = @_;
    my ($headers, $body) = $provider->signed_webhook(%args);
    $headers->{'X-Signature'} =~ tr/0-9a-f/1-9a-f0/ if $args{forged};
    return post($nginx->url($uri), $body, $headers);
}


get($nginx->url('/other'));
is(line(), '/other provider=- job=- status=- outcome=- attempts=- '
    . 'verified=- replay=- db=-', 'none of ours');

# generations

my $job = order()->{json}{job_id};
my $id = $provider->requests->[-1]{id};
is(line(), "/new provider=fal.ai job=$job status=queued outcome=accepted "
    . 'attempts=1 verified=- replay=0 db=time', 'accepted');

my %key = ('Idempotency-Key' => 'k');
my @order = ($nginx->url('/new'), { user_id => $user, model_id => 'v',
    prompt => 'p' }, \%key);
my $keyed = post(@order)->{json}{job_id};
line();
post(@order);
is(line(), "/new provider=fal.ai job=$keyed status=queued outcome=replay "
    . 'attempts=- verified=- replay=1 db=-', 'a replay, from the zone');

$nginx->restart;
post(@order);
is(line(), "/new provider=fal.ai job=$keyed status=queued outcome=replay "
    . 'attempts=- verified=- replay=1 db=time', 'and from the database');

order(prompt => '');
is(line(), '/new provider=- job=- status=- outcome=bad_field attempts=- '
    . 'verified=- replay=0 db=-', 'a bad one');

request('GET', $nginx->url('/new'));
like(line(), qr{^/new provider=- job=- status=- outcome=wrong_method },
    'a wrong method');

order(user_id => uuid());
is(line(), '/new provider=- job=- status=- outcome=insufficient_credits '
    . 'attempts=- verified=- replay=0 db=time', 'no credits');

$provider->next(status => 500);
my $failed = order()->{json}{job_id};
is(line(), "/new provider=fal.ai job=$failed status=failed "
    . 'outcome=provider_failed attempts=1 verified=- replay=0 db=time',
    'a provider that fails');

$provider->next(status => 422);
my $refused = order()->{json}{job_id};
is(line(), "/new provider=fal.ai job=$refused status=failed "
    . 'outcome=provider_refused attempts=1 verified=- replay=0 db=time',
    'one that refuses');

$provider->next(drop => 'after');
my $unknown = order()->{json}{job_id};
is(line(), "/new provider=fal.ai job=$unknown status=processing "
    . 'outcome=unknown attempts=1 verified=- replay=0 db=time',
    'one whose answer is lost');

# webhooks

webhook('/hook', id => $id, status => 'processing');
is(line(), "/hook provider=fal.ai job=$job status=processing "
    . 'outcome=applied attempts=- verified=1 replay=0 db=time', 'progress');

webhook('/hook', id => $id, forged => 1);
is(line(), '/hook provider=fal.ai job=- status=- outcome=bad_signature '
    . 'attempts=- verified=0 replay=0 db=-', 'forged');

webhook('/hook', id => $id);
is(line(), "/hook provider=fal.ai job=$job status=completed "
    . 'outcome=applied attempts=- verified=1 replay=0 db=time', 'completed');

webhook('/hook', id => $id);
is(line(), "/hook provider=fal.ai job=$job status=completed outcome=replay "
    . 'attempts=- verified=1 replay=1 db=-', 'again, from the zone');

webhook('/hook', id => $id, video_url => 'https://cdn.test/2');
is(line(), "/hook provider=fal.ai job=$job status=completed outcome=replay "
    . 'attempts=- verified=1 replay=1 db=time', 'from the database');

webhook('/hook', id => $id, status => 'failed');
is(line(), "/hook provider=fal.ai job=$job status=completed "
    . 'outcome=ignored attempts=- verified=1 replay=0 db=time',
    'one that contradicts');

webhook('/hook', id => 'early');
is(line(), '/hook provider=fal.ai job=- status=- outcome=parked attempts=- '
    . 'verified=1 replay=0 db=time', 'parked');

my ($attempt) = $provider->requests->[-1]{body} =~ /attempt=([-0-9a-f]+)/;
webhook("/hook?attempt=$attempt", id => 'early', status => 'exploded');
is(line(), "/hook provider=fal.ai job=$unknown status=completed "
    . 'outcome=no_verdict attempts=- verified=1 replay=0 db=time',
    'no verdict, but it tells whose the parked one is');

webhook('/hook', id => 'nobody');
is(line(), '/hook provider=fal.ai job=- status=- outcome=not_found '
    . 'attempts=- verified=1 replay=0 db=time', 'of nobody');

webhook("/hook?attempt=$attempt", id => 'other');
is(line(), '/hook provider=fal.ai job=- status=- outcome=mismatch '
    . 'attempts=- verified=1 replay=0 db=time', 'of another job');

webhook('/hook', body => '[]');
is(line(), '/hook provider=fal.ai job=- status=- outcome=not_an_object '
    . 'attempts=- verified=1 replay=0 db=-', 'signed nonsense');

webhook('/hook?provider=nobody', id => $id);
is(line(), '/hook provider=- job=- status=- outcome=unknown_provider '
    . 'attempts=- verified=- replay=0 db=-', 'unknown provider');

# where nginx shows a page of the user's, the request is still ours

is(webhook('/page', id => $id, forged => 1)->{body}, 'denied', 'error_page');
is(line(), '/denied.html provider=fal.ai job=- status=- '
    . 'outcome=bad_signature attempts=- verified=0 replay=0 db=-',
    'after a redirect');

# jobs

get($nginx->url("/jobs/$job"));
is(line(), "/jobs/$job provider=fal.ai job=$job status=completed outcome=- "
    . 'attempts=- verified=- replay=0 db=time', 'a job');

my $none = uuid();
get($nginx->url("/jobs/$none"));
is(line(), "/jobs/$none provider=- job=$none status=- outcome=unknown_job "
    . 'attempts=- verified=- replay=0 db=time', 'no job');
