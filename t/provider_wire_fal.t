#!/usr/bin/perl

# providers/fal.conf against a provider as the integration document describes
# fal.ai.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA qw(hmac_sha256_hex);
use Test::More tests => 18;

use VidgenTest::Books qw(wrong_books);
use VidgenTest::Provider;
use VidgenTest::Wire;

my $provider = VidgenTest::Provider->new;

my $wire = VidgenTest::Wire->new(
    provider   => $provider,
    definition => 'fal',
    env        => {
        FAL_BASE_URL       => $provider->url,
        FAL_API_KEY        => 'fal-api-key',
        FAL_WEBHOOK_SECRET => 'fal-webhook-secret',
    });
my %input = (model_id => 'model-1', prompt => "a \"cat\" & \x{e9}",
    duration => 10, aspect_ratio => '9:16');

# submit

my $order = $wire->order(\%input, body => '{"request_id":"f-1"}');
is($order->{sent}, 'POST /fal-ai/video-model {"prompt":"a \"cat\" & '
    . "\xc3\xa9" . '",'
    . '"model_id":"model-1","webhook_url":"WEBHOOK"}', 'what is asked');
is($wire->headers($order->{request}), 'authorization: Key fal-api-key',
    'with these headers');
is($order->{request}{headers}{'content-type'}, 'application/json', 'as JSON');
ok($wire->is_url($order, 'fal.ai'), 'the webhook\'s URL');
is_deeply($order->{answer}{json}, { job_id => $order->{job},
    provider => 'fal.ai', status => 'queued', estimated_time => 120 },
    'the client is told');
is($wire->job($order), 'queued f-1 - -', 'the job');

# webhook

is(hook($order, '{"request_id":"f-1","status":"completed",'
    . '"output":{"video_url":"https://cdn.test/1.mp4"}}')->{status}, 200,
    'completed');
is($wire->job($order), 'completed f-1 https://cdn.test/1.mp4 -', 'the job');

$order = $wire->order(\%input, body => '{"request_id":"f-2"}');
is(hook($order, '{"request_id":"f-2","status":"failed",'
    . '"error":"unsafe prompt"}')->{status}, 200, 'failed');
is($wire->job($order), 'failed f-2 - unsafe prompt', 'the job');

# poll

my $uri = '/fal-ai/video-model/requests/f-3';
$order = $wire->order(\%input, body => '{"request_id":"f-3"}');
my $poll = $wire->poll($order, "GET $uri", body => '{"status":"processing"}');
is($wire->headers($poll), 'authorization: Key fal-api-key', 'a poll');
is($wire->job_in($order, 'processing'), 'processing f-3 - -', 'processing');
ok($wire->poll($order, "GET $uri", body => '{"status":"completed",'
    . '"output":{"video_url":"https://cdn.test/3.mp4"}}'), 'another poll');
is($wire->job_in($order, 'completed'),
    'completed f-3 https://cdn.test/3.mp4 -', 'completed');

$order = $wire->order(\%input, body => '{"request_id":"f-4"}');
ok($wire->poll($order, 'GET /fal-ai/video-model/requests/f-4',
    body => '{"status":"failed","error":"no GPU"}'), 'a poll');
is($wire->job_in($order, 'failed'), 'failed f-4 - no GPU', 'failed');

# probe

my $probe = $wire->asked('GET /fal-ai/health');
is($wire->headers($probe), 'authorization: Key fal-api-key', 'a probe');

is_deeply([wrong_books($wire->pg)], [], 'the books are right');


sub hook {
    my ($order, $body) = @_;
    return $wire->hook($order, { 'X-Signature' =>
        hmac_sha256_hex($body, 'fal-webhook-secret') }, $body);
}
