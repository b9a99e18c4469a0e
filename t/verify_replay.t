#!/usr/bin/perl

# vidgen_verify: what the application has answered 2xx is answered at the edge
# when it comes again, whatever identifies it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA qw(hmac_sha256 hmac_sha256_hex);
use MIME::Base64 qw(encode_base64);
use Test::More tests => 34;

use VidgenTest::Http qw(request);
use VidgenTest::Nginx;
use VidgenTest::Provider;

my $app = VidgenTest::Provider->new;
my $key = 'k' x 24;

my $nginx = VidgenTest::Nginx->new(
    vars => { APP => $app->url },
    env  => {
        HOOK_SECRET => $app->secret,
        SVIX_SECRET => 'whsec_' . encode_base64($key, ''),
    },
    config => <<'EOT')->start;
%%GLOBALS%%

worker_processes 2;

events { }

http {
    %%HTTP%%

    vidgen_monitor  off;

    vidgen_provider plain {
        webhook {
            signature  hmac-sha256 header=X-Signature;
            secret     env:HOOK_SECRET;
            job_id     /request_id;
            status     /status completed=completed failed=failed *=failed;
        }
    }

    vidgen_provider signed-id {
        webhook {
            signature  standard-webhooks;
            secret     env:SVIX_SECRET;
            job_id     /request_id;
            status     /status;
        }
    }

    vidgen_provider unsigned-id {
        webhook {
            signature  hmac-sha256 header=X-Signature event_id=X-Event;
            secret     env:HOOK_SECRET;
            job_id     /request_id;
            status     /status;
        }
    }

    server {
        listen 127.0.0.1:%%PORT%%;

        underscores_in_headers on;

        location / { vidgen_verify $arg_p; proxy_pass %%APP%%; }
        location /second/ { vidgen_verify $arg_p; proxy_pass %%APP%%; }
    }
}
EOT

# the answer at the edge

my %hook = (id => 'job-1', status => 'completed');
passed(sub { plain(%hook) }, 'the first');

my $answer = plain(%hook);
is_deeply([@$answer{qw(status body)}], [200, '{"success":true}'],
    'the edge answers the second');
is($answer->{headers}{'x-idempotent-replay'}, 'true', 'and says so');
is($answer->{headers}{'content-type'}, 'application/json', 'in JSON');
is(asked(), 1, 'the application does not see it');

# job and status

passed(sub { plain(%hook, status => 'failed') }, 'another status');
passed(sub { plain(%hook, id => 'job-2') }, 'another job');
replayed(sub { plain(%hook, more => { b => 1 }) },
    'the same job and status in another body');
passed(sub { plain(%hook, '/second/') }, 'another location');
passed(sub { plain(id => 'job-1', status => 'queued', more => { p => 1 }) },
    'a job that goes on');
passed(sub { plain(id => 'job-1', status => 'queued', more => { p => 2 }) },
    'and goes on');
replayed(sub { plain(id => 'job-1', status => 'queued', more => { p => 2 }) },
    'the very same');
passed(sub { plain(id => 'job-3', status => 'odd', more => { p => 1 }) },
    'a word that only the wildcard knows');
passed(sub { plain(id => 'job-3', status => 'odd', more => { p => 2 }) },
    'with news');

# no job: the body

passed(sub { plain(body => 'text') }, 'a body that is no JSON');
replayed(sub { plain(body => 'text') }, 'again');
passed(sub { plain(body => '{"a":1}') }, 'a body without a job');
replayed(sub { plain(body => '{"a":1}') }, 'again');
passed(sub { plain(body => '{"a":1} ') }, 'another body');

# any 2xx

for my $status (204, 299) {
    $app->next(status => $status, body => '');
    my %hook = (id => "status-$status");
    is(plain(%hook)->{status}, $status, "the application answers $status");
    replayed(sub { plain(%hook) }, 'again');
}

# an event id that is signed

passed(sub { svix('event-1', '{"a":1}') }, 'an event');
replayed(sub { svix('event-1', '{"a":1}') }, 'again');
replayed(sub { svix('event-1', '{"b":1}') }, 'in another body');
passed(sub { svix('event-2', '{"a":1}') }, 'another event');
replayed(sub { svix('event-1', '{"a":1}', time + 9) }, 'signed anew');
my ($signature, $time) = svix_signature('event-1', '{"a":1}');
replayed(sub { send_hook('/?p=signed-id', ['webhook_id' => 'event-1',
    'webhook-id' => 'event-3', 'webhook-signature' => $signature,
    'webhook-timestamp' => $time], '{"a":1}') },
    'an id beside the one that is signed');

# an event id that is not signed counts together with the body

passed(sub { unsigned('event-1', '{"a":1}') }, 'an event');
replayed(sub { unsigned('event-1', '{"a":1}') }, 'again');
passed(sub { unsigned('event-2', '{"a":1}') }, 'another event');
passed(sub { unsigned('event-2', '{"b":1}') },
    'an id cannot be put onto another webhook');

# a reload forgets nothing

$nginx->reload(wait => 1);
replayed(sub { plain(%hook) }, 'after a reload');


sub send_hook {
    my ($uri, $headers, $body) = @_;
    return request('POST', $nginx->url($uri), $headers, $body);
}

sub plain {
    my $uri = @_ % 2 ? pop @_ : '/';
    my ($headers, $body) = $app->signed_webhook(@_);
    return send_hook("$uri?p=plain", $headers, $body);
}

sub svix_signature {
    my ($id, $body, $time) = @_;
    $time //= time;
    return ('v1,' . encode_base64(hmac_sha256("$id.$time.$body", $key), ''),
        $time);
}

sub svix {
    my ($id, $body, $time) = @_;
    my $signature;
    ($signature, $time) = svix_signature($id, $body, $time);
    return send_hook('/?p=signed-id', { 'webhook-id' => $id,
        'webhook-timestamp' => $time, 'webhook-signature' => $signature },
        $body);
}

sub unsigned {
    my ($id, $body) = @_;
    return send_hook('/?p=unsigned-id', { 'X-Event' => $id,
        'X-Signature' => hmac_sha256_hex($body, $app->secret) }, $body);
}

sub asked { scalar @{ $app->requests } }

sub passed {
    my ($send, $what) = @_;
    my $before = asked();
    my $answer = $send->();
    ok($answer->{status} == 200 && asked() == $before + 1
        && !$answer->{headers}{'x-idempotent-replay'}, "passed on: $what");
}

sub replayed {
    my ($send, $what) = @_;
    my $before = asked();
    my $answer = $send->();
    ok($answer->{status} == 200 && asked() == $before
        && $answer->{headers}{'x-idempotent-replay'}, "answered: $what")
        or diag("$answer->{status} $answer->{body}");
}
