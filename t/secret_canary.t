#!/usr/bin/perl

# Secrets are where they belong and nowhere else: canaries as keys, webhook
# secrets, passwords and tokens; then everything goes wrong that can, and no
# log at info, answer, page, dump of the configuration, message of a wrong
# one, title of a process, row of the database or request to anyone else has
# one of them.
#
# Not under valgrind: it needs answers in time.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA qw(hmac_sha256 hmac_sha256_hex);
use JSON::PP;
use MIME::Base64 qw(encode_base64);
use Test::More;

use VidgenTest::Books qw(customer everything);
use VidgenTest::Http qw(get post request);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Util qw(slurp wait_for);

my $pg = VidgenTest::Postgres->new(fsync => 0);
$pg->query("ALTER ROLE edge PASSWORD 'canary-database'");
(my $conninfo = $pg->edge_conninfo) =~ s/password=\S+/password=canary-database/;

my ($one, $two, $app, $messenger)
    = map { VidgenTest::Provider->new } 1 .. 4;

my $whsec = encode_base64('canary-of-standard-webhooks', '');
my %secret = (
    KEY_ONE      => 'canary-key-one',
    KEY_TWO      => 'canary-key-two',
    HOOK_ONE     => 'canary-hook-one',
    HOOK_OLD     => 'canary-hook-old',
    HOOK_TWO     => "whsec_$whsec",
    CAPABILITY   => 'canary-capability',
    DATABASE_URL => $conninfo,
    BOT_TOKEN    => '12345:canary-bot-token',
);

# what may be nowhere, also not in part
my @canaries = ('canary', $whsec, map { (hmac_sha256_hex('', $_)) }
    grep { /canary/ } values %secret);

my $nginx = VidgenTest::Nginx->new(
    vars => { APP => $app->url, BOT => $messenger->url },
    env  => { %secret, ONE => $one->url, TWO => $two->url },
    files => { 'file-secret' => "canary-file\n" },
    config => <<'EOT');
%%GLOBALS%%

worker_processes 2;

events { }

http {
    %%HTTP%%

    log_format  all  "$request $status $vidgen_outcome $vidgen_provider "
                     "$vidgen_api_key $vidgen_job_id $vidgen_url "
                     "$vidgen_base $http_authorization $upstream_addr";
    access_log  %%PREFIX%%/all.log all;
    log_subrequest  off;

    vidgen_database  env:DATABASE_URL timeout=2s;
    vidgen_secret    env:CAPABILITY;
    vidgen_monitor   interval=100ms timeout=2s fails=30 poll=100ms;
    vidgen_alert     telegram token=env:BOT_TOKEN chat=1 url=%%BOT%%
                     every=0;

    vidgen_provider one {
        base     env:ONE;
        api_key  env:KEY_ONE;
        header   Authorization "Key $vidgen_api_key";

        submit {
            url     $vidgen_base/submit;
            body    /prompt   $vidgen_prompt;
            body    /webhook  $vidgen_webhook_url;
            job_id  /request_id;
            error   /error/message;
        }

        poll {
            url        $vidgen_base/poll/$vidgen_provider_job_id;
            status     /status;
            video_url  /url;
        }

        webhook {
            signature  hmac-sha256 header=X-Signature;
            secret     env:HOOK_ONE env:HOOK_OLD env:HOOK_MISSING
                       file:%%PREFIX%%/file-secret;
            job_id     /request_id;
            status     /status;
            error      /error;
        }

        probe { url $vidgen_base/health; }
    }

    vidgen_provider two {
        base     env:TWO;
        api_key  env:KEY_TWO;
        header   X-API-Key $vidgen_api_key;

        submit {
            url     $vidgen_base/submit;
            body    /prompt  $vidgen_prompt;
            job_id  /request_id;
        }

        webhook {
            signature  standard-webhooks;
            secret     env:HOOK_TWO;
            job_id     /request_id;
            status     /status;
        }

        probe { url $vidgen_base/health; }
    }

    vidgen_provider polled {
        submit {
            url     $vidgen_base/submit;
            job_id  /request_id;
        }

        poll {
            url        $vidgen_base/polled/$vidgen_provider_job_id;
            status     /status;
            video_url  /url;
            error      /error/message;
        }

        base     env:TWO;
        api_key  env:KEY_TWO;
        header   X-API-Key $vidgen_api_key;
    }

    vidgen_provider unsigned {
        base  env:TWO;

        webhook {
            signature  token;
            job_id     /request_id;
            status     /status;
        }

        poll {
            url        $vidgen_base/poll/$vidgen_provider_job_id;
            status     /status;
            video_url  /url;
        }
    }

    server {
        listen 127.0.0.1:%%PORT%%;

        vidgen_webhook_url            http://127.0.0.1:%%PORT%%/hook;
        vidgen_attempt_timeout        1s;
        vidgen_next_provider_timeout  5s;
        vidgen_next_provider          error timeout http_5xx http_429
                                      invalid_answer;
        vidgen_retry                  attempts=1;
        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;

        error_page  502 503 /page;

        location = /generate { vidgen_generate one two; }
        location = /polled   { vidgen_generate polled; }
        location = /strict   { vidgen_generate one; error_page 599 /none; }
        location = /hook     { vidgen_webhook; }
        location /jobs/      { vidgen_job; }
        location = /health   { vidgen_health; }
        location = /page     { internal; return 200 "page $vidgen_api_key"; }

        location = /verify {
            vidgen_verify    $arg_provider;
            vidgen_dry_run   on;
            proxy_pass       %%APP%%;
        }
    }
}
EOT

my $json = JSON::PP->new->canonical;
my @answers;                        # all that anybody was told

$nginx->start;

my $user = customer($pg, 1000);
$pg->query("INSERT INTO models (id, credits_per_generation)
    VALUES ('m', 1)");

# generations that go wrong in every way, then on to the other provider

my %echo = (error => { message => 'bad key canary-key-one' });
my %long = (error => { message => 'x' x 1014 . 'canary-key-one' });
my %odd = (%long, request_id => 'i' x 256);
my @ways = ({}, { status => 500, body => \%echo },
    { status => 401, body => \%echo }, { status => 403, body => \%echo },
    { status => 418, body => \%echo }, { status => 422, body => \%echo },
    { status => 422, body => \%long }, { status => 422, body => \%odd },
    { body => 'no JSON' },
    { body => {} }, { drop => 'before' }, { drop => 'after' },
    { drop => 'middle' }, { delay => 3 }, { status => 302,
        headers => { Location => 'http://127.0.0.1:1/' } }, { status => 429 });

for my $way (@ways) {
    for my $uri (qw(/generate /strict)) {
        $one->on('POST', %$way);
        keep(post($nginx->url($uri), { user_id => $user, model_id => 'm',
            prompt => 'p' }));
    }
}
$two->on('POST', status => 503);
keep(post($nginx->url('/generate'), { user_id => $user, model_id => 'm',
    prompt => 'p' }));

my ($accepted) = grep { $_->{json} && ($_->{json}{provider} // '') eq 'one'
    && $_->{status} == 200 } reverse @answers;
my $job = $accepted->{json}{job_id};
keep(get($nginx->url("/jobs/$job")), get($nginx->url('/jobs/nothing')),
    get($nginx->url('/none')));

# webhooks, right and wrong

my ($request) = grep { $_->{id} } reverse @{ $one->requests };
my $hook_url = $json->decode($request->{body})->{webhook};
my $body = $json->encode({ request_id => $request->{id},
    status => 'failed', error => 'e' });
my $stranger = '{"request_id":"x","status":"completed"}';

my $long = $json->encode({ request_id => $request->{id}, status => 'failed',
    error => 'x' x 1014 . 'canary-key-one' });
keep(request('POST', $hook_url, { 'X-Signature' => hmac_sha256_hex($long,
    'canary-hook-one') }, $long));

for my $text ($body, $body, $stranger, '{') {
    for my $key (qw(wrong canary-hook-old canary-hook-one canary-file)) {
        my %sign = ('X-Signature' => hmac_sha256_hex($text, $key));
        keep(map { request('POST', $_, \%sign, $text) } $hook_url,
            $nginx->url('/hook?provider=one'),
            $nginx->url('/verify?provider=one'));
    }
    my $mac = hmac_sha256('id.' . time . ".$text",
        'canary-of-standard-webhooks');
    for my $signature (encode_base64($mac, ''), 'AAAA') {
        keep(map { request('POST', $nginx->url($_), { 'webhook-id' => 'id',
            'webhook-timestamp' => time,
            'webhook-signature' => "v1,$signature" }, $text) }
            '/hook?provider=two', '/verify?provider=two');
    }
    keep(map { request('POST', $nginx->url("$_?provider=unsigned"
        . '&attempt=00000000-0000-7000-8000-000000000000&token='
        . 'f' x 32), {}, $text) } qw(/hook /verify));
}

# a poll that repeats the key

$two->on('POST', status => 200);
$two->on('GET /polled/', body => { status => 'failed', error =>
    { message => 'x' x 1014 . 'canary-key-two' } });
my $polled = post($nginx->url('/polled'), { user_id => $user,
    model_id => 'm', prompt => 'p' });
keep($polled);
ok(wait_for {
    my $state = get($nginx->url("/jobs/$polled->{json}{job_id}"));
    keep($state);
    $state->{json}{status} eq 'failed';
}, 'a poll has ended its job');

# the monitor: down, alerts that do not get through, up again

$messenger->answer(status => 401, body => { description =>
    'no such bot 12345:canary-bot-token' });
$_->on('GET', status => 500, body => \%echo) for $one, $two;
$messenger->wait_requests(2);
keep(get($nginx->url('/health')));
$messenger->answer(status => 200, body => { ok => JSON::PP::true });
$_->on('GET', status => 200) for $one, $two;
ok(wait_for {
    my $health = get($nginx->url('/health'));
    keep($health);
    2 <= grep { $_->{status} eq 'healthy' } @{ $health->{json}{providers} };
}, 'the providers are back');

# a database that does not let us in, and none at all

$pg->query("ALTER ROLE edge PASSWORD 'another'");
$pg->restart('immediate');
keep(post($nginx->url('/generate'), { user_id => $user, model_id => 'm',
    prompt => 'p' })) for 1 .. 3;
keep(get($nginx->url("/jobs/$job")));
$pg->stop;
keep(post($nginx->url('/generate'), { user_id => $user, model_id => 'm',
    prompt => 'p' }));
$pg->start;
ok($nginx->reload, 'a reload');

# ---- where they are not ----------------------------------------------------

my $requests = sub { return $json->encode($_[0]->requests) };

clean('the error log', $nginx->error_log);
clean('what nginx printed', $nginx->output);
clean('the access logs', $nginx->access_log . $nginx->read_file('all.log'));
clean('the answers', $json->encode(\@answers));
clean('the titles of the processes', join ' ', map { $_->{title} }
    $nginx->processes);
my ($passed, $dump) = $nginx->config_test('-T');
ok($passed, 'nginx -T');
like($dump, qr/env:KEY_ONE/, 'dumps the configuration');
clean('the dump', $dump);
clean('the database', everything($pg));
clean('the log of the database', $pg->log);
clean('what the application got', $requests->($app));

like($requests->($one), qr/"authorization":"Key canary-key-one"/,
    'the first provider got its key');
like($requests->($two), qr/"x-api-key":"canary-key-two"/,
    'so did the second');
like($requests->($messenger), qr{/bot12345:canary-bot-token/sendMessage},
    'and the messenger its token');
clean('what the first got besides',
    $requests->($one) =~ s/Key canary-key-one//gr);
clean('what the second got besides',
    $requests->($two) =~ s/canary-key-two//gr);
clean('what the messenger got besides',
    $requests->($messenger) =~ s/12345:canary-bot-token//gr);

# ---- configurations that are wrong -----------------------------------------

my %wrong = (
    'a key in a URL' => q(submit { url http://a.test/?k=$vidgen_api_key;
        job_id /id; }),
    'a key in a query' => q(submit { url http://a.test/;
        query key $vidgen_api_key; job_id /id; }),
    'a secret that is no hex' => q(webhook { job_id /id; status /s;
        signature hmac-sha256 header=X-S key=hex; secret env:HOOK_ONE; }),
    'a secret that is no base64' => q(webhook { job_id /id; status /s;
        signature hmac-sha256 header=X-S key=base64; secret env:HOOK_ONE; }),
    'a secret that is no public key' => q(webhook { job_id /id; status /s;
        signature ed25519 header=X-S key=raw; secret env:HOOK_ONE; }),
    'a secret as a knob' => q(webhook { job_id /id; status /s;
        signature hmac-sha256 header=X-S canary-oops=canary; }),
    'a key with a line break' => q(api_key env:BROKEN;),
    'a base that is none' => q(base env:HOOK_ONE;),
);

for my $name (sort keys %wrong) {
    refused($name, "vidgen_provider p { $wrong{$name} }");
}
refused('a database that is none', 'vidgen_database env:HOOK_ONE;');
refused('a database with a slip',
    'vidgen_database env:SLIP;');

done_testing;


sub keep { push @answers, @_ }

sub clean {
    my ($what, $text) = @_;
    my @lines = grep { my $line = $_; grep { index($line, $_) >= 0 }
        @canaries } split /\n|\}/, $text;
    ok(!@lines, "no secret in $what") or diag(join "\n", splice @lines, 0, 5);
}

sub refused {
    my ($name, $directives) = @_;

    my $nginx = VidgenTest::Nginx->new(
        env => { HOOK_ONE => 'canary-hook-one', BROKEN => "canary\r\nbroken",
            SLIP => "host=127.0.0.1 password canary" },
        vars => { DIRECTIVES => $directives },
        config => <<'EOT');
%%GLOBALS%%
events { }
http {
    %%HTTP%%
    %%DIRECTIVES%%
}
EOT
    my ($passed, $said) = $nginx->config_test;
    $nginx->allow(qr/\[emerg\]/);
    ok(!$passed, "refused: $name");
    clean("the message of: $name", $said =~ s/"canary-oops"//gr);
}
