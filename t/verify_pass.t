#!/usr/bin/perl

# vidgen_verify: a genuine webhook reaches the application as it was sent, with
# what is known of it in variables; what is not genuine does not.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 33;

use VidgenTest::Http qw(request);
use VidgenTest::Nginx;
use VidgenTest::Provider;

my $app = VidgenTest::Provider->new;
$app->answer(status => 201, headers => { 'X-App' => 'yes' }, body => 'thanks');

my $nginx = VidgenTest::Nginx->new(
    vars => { APP => $app->url },
    env  => { HOOK_SECRET => $app->secret, OTHER_SECRET => 'another-secret' },
    config => <<'EOT')->start;
%%GLOBALS%%

events { }

http {
    %%HTTP%%

    vidgen_monitor  off;

    vidgen_provider p {
        webhook {
            signature  hmac-sha256 header=X-Signature;
            secret     env:HOOK_SECRET;
            job_id     /request_id;
            status     /status done=completed;
            challenge  /challenge;
            options    204;
        }
    }

    vidgen_provider other {
        webhook {
            signature  hmac-sha256 header=X-Signature;
            secret     env:OTHER_SECRET;
            job_id     /id;
            status     /state;
        }
    }

    vidgen_provider silent {
        poll {
            url        https://example.com/$vidgen_provider_job_id;
            status     /status;
            video_url  /url;
        }
    }

    server {
        listen 127.0.0.1:%%PORT%%;

        proxy_set_header X-Provider $vidgen_provider;
        proxy_set_header X-Verified $vidgen_verified;
        proxy_set_header X-Replay   $vidgen_replay;
        proxy_set_header X-Outcome  $vidgen_outcome;
        proxy_set_header X-Job      $vidgen_job_id;
        proxy_set_header X-Same-Job $vidgen_provider_job_id;
        proxy_set_header X-Status   $vidgen_job_status;

        location /p/ {
            vidgen_verify p;
            proxy_pass %%APP%%;

            location /p/nested { proxy_pass %%APP%%; }
            location /p/off    { vidgen_verify off; proxy_pass %%APP%%; }
        }

        location /any/    { vidgen_verify $arg_name; proxy_pass %%APP%%; }
        location /silent/ { vidgen_verify silent; proxy_pass %%APP%%; }
    }
}
EOT

my $asked = 0;

# a webhook that is passed on

my ($headers, $body) = $app->signed_webhook(id => 'job-1', status => 'done');
my $answer = request('POST', $nginx->url('/p/hook?a=b'),
    { %$headers, 'X-Verified' => 'forged' }, $body);

is($answer->{status}, 201, 'the application\'s status');
is($answer->{body}, 'thanks', 'its body');
is($answer->{headers}{'x-app'}, 'yes', 'its headers');
ok(!$answer->{headers}{'x-idempotent-replay'}, 'no replay');

my $got = last_request();
is("$got->{method} $got->{uri}", 'POST /p/hook?a=b', 'it got the request');
is($got->{body}, $body, 'and the body');
is($got->{headers}{'x-signature'}, $headers->{'X-Signature'},
    'with its signature');
is(variables($got), 'p 1 0 passed job-1 job-1 completed', 'and the variables');

# bodies that are not what the definition reads

for my $text ('', 'not JSON', '[1]', '{}', '{"request_id":"job-2"}',
    "\0\1\xff", '{"request_id":"a\nb","status":"done"}')
{
    my ($signed) = $app->signed_webhook(body => $text);
    my $answer = request('POST', $nginx->url('/p/'), $signed, $text);
    is_deeply([$answer->{status}, last_request()->{body}], [201, $text],
        'passed on: ' . $text =~ s/[^ -~]/./gr);
}
is(variables(last_request()), 'p 1 0 passed   ', 'nothing is known of those');

($headers, $body) = $app->signed_webhook(id => 'job-3', status => 'strange');
request('POST', $nginx->url('/p/'), $headers, $body);
is(variables(last_request()), 'p 1 0 passed job-3 job-3 ', 'an unknown word');

# nested locations

($headers, $body) = $app->signed_webhook(id => 'job-4');
is(request('POST', $nginx->url('/p/nested'), $headers, $body)->{status}, 201,
    'a nested location passes on what is genuine');
is(request('POST', $nginx->url('/p/nested'), {}, $body)->{status}, 401,
    'and nothing else');
is(request('GET', $nginx->url('/p/off'))->{status}, 201,
    'unless it says so');
$asked = @{ $app->requests };

# what is answered at the edge

$answer = request('POST', $nginx->url('/p/'),
    { 'X-Signature' => '0' x 64 }, $body);
is($answer->{status}, 401, 'a wrong signature');
is_deeply($answer->{json}, { code => 'bad_signature',
    error => 'the signature is missing or wrong' }, 'is said in JSON');
is(request('POST', $nginx->url('/p/'), {}, $body)->{status}, 401,
    'no signature');
is(request('POST', $nginx->url('/any/?name=other'), $headers, $body)->{status},
    401, 'a signature of another provider');
is(request('POST', $nginx->url('/silent/'), $headers, $body)->{status}, 401,
    'a provider that sends no webhooks');

$answer = request('POST', $nginx->url('/any/?name=none'), $headers, $body);
is_deeply([@$answer{qw(status)}, $answer->{json}{code}],
    [400, 'unknown_provider'], 'an unknown provider');

$answer = request('GET', $nginx->url('/p/'));
is_deeply([$answer->{status}, $answer->{headers}{allow}], [405, 'POST'],
    'a method that it has not');
is(request('OPTIONS', $nginx->url('/p/'))->{status}, 204, 'OPTIONS');
is(request('OPTIONS', $nginx->url('/any/?name=other'))->{status}, 405,
    'of a provider that does not ask so');

my $challenge = '{"challenge":"abc"}';
($headers) = $app->signed_webhook(body => $challenge);
$answer = request('POST', $nginx->url('/p/'), $headers, $challenge);
is_deeply([@$answer{qw(status body)}], [200, $challenge], 'a challenge');
is(request('POST', $nginx->url('/p/'), {}, $challenge)->{status}, 401,
    'that nobody signed');

is(scalar @{ $app->requests }, $asked, 'the application got none of these');

($headers, $body) = $app->signed_webhook(id => 'job-5',
    secret => 'another-secret');
is(request('POST', $nginx->url('/any/?name=other'), $headers, $body)->{status},
    201, 'the provider may be a variable');


sub last_request { return $app->requests->[-1] }

sub variables {
    my ($request) = @_;
    return join ' ', map { $request->{headers}{"x-$_"} // '' }
        qw(provider verified replay outcome job same-job status);
}
