#!/usr/bin/perl

# providers/runway.conf against a provider as the integration document
# describes Runway.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA qw(hmac_sha256_hex);
use Test::More tests => 16;

use VidgenTest::Books qw(wrong_books);
use VidgenTest::Provider;
use VidgenTest::Wire;

my $provider = VidgenTest::Provider->new;

my $wire = VidgenTest::Wire->new(
    provider   => $provider,
    definition => 'runway',
    env        => {
        RUNWAY_BASE_URL       => $provider->url,
        RUNWAY_API_KEY        => 'runway-api-key',
        RUNWAY_WEBHOOK_SECRET => 'runway-webhook-secret',
    });
my %input = (model_id => 'model-1', prompt => 'a cat');
my $bearer = 'authorization: Bearer runway-api-key';

# submit

my $order = $wire->order(\%input, status => 201, body => '{"id":"r-1"}');
is($order->{sent}, 'POST /v1/generate {"prompt":"a cat","model":"model-1",'
    . '"webhook_url":"WEBHOOK"}', 'what is asked');
is($wire->headers($order->{request}), $bearer, 'with these headers');
ok($wire->is_url($order, 'runway'), 'the webhook\'s URL');
is_deeply([@{ $order->{answer}{json} }{qw(provider status estimated_time)}],
    ['runway', 'queued', 180], 'the client is told');
is($wire->job($order), 'queued r-1 - -', 'the job');

# webhook

my $completed = '{"id":"r-1","status":"succeeded",'
    . '"output_url":"https://cdn.test/1.mp4","error_message":null}';
is($wire->hook($order, { 'X-Signature' => hmac_sha256_hex($completed,
    'runway-webhook-secret') }, $completed)->{status}, 401,
    'a signature without "sha256="');
is(hook($order, $completed)->{status}, 200, 'completed');
is($wire->job($order), 'completed r-1 https://cdn.test/1.mp4 -', 'the job');

$order = $wire->order(\%input, body => '{"id":"r-2"}');
is(hook($order, '{"id":"r-2","status":"failed","output_url":null,'
    . '"error_message":"unsafe prompt"}')->{status}, 200, 'failed');
is($wire->job($order), 'failed r-2 - unsafe prompt', 'the job');

# poll

$order = $wire->order(\%input, body => '{"id":"r-3"}');
my $poll = $wire->poll($order, 'GET /v1/generate/r-3',
    body => '{"id":"r-3","status":"processing"}');
is($wire->headers($poll), $bearer, 'a poll');
is($wire->job_in($order, 'processing'), 'processing r-3 - -', 'processing');
ok($wire->poll($order, 'GET /v1/generate/r-3', body => '{"status":'
    . '"succeeded","output_url":"https://cdn.test/3.mp4"}'), 'another poll');
is($wire->job_in($order, 'completed'),
    'completed r-3 https://cdn.test/3.mp4 -', 'completed');

# probe

my $probe = $wire->asked('GET /v1/health');
is($wire->headers($probe), $bearer, 'a probe');

is_deeply([wrong_books($wire->pg)], [], 'the books are right');


sub hook {
    my ($order, $body) = @_;
    return $wire->hook($order, { 'X-Signature' => 'sha256='
        . hmac_sha256_hex($body, 'runway-webhook-secret') }, $body);
}
