#!/usr/bin/perl

# providers/replicate.conf against a stand-in that answers as Replicate's API
# is documented; its webhooks are signed by Standard Webhooks.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 20;

use VidgenTest::Books qw(wrong_books);
use VidgenTest::Provider;
use VidgenTest::Wire qw(standard_webhook);

my $secret = 'whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD';
my $provider = VidgenTest::Provider->new;

my $wire = VidgenTest::Wire->new(
    provider   => $provider,
    definition => 'replicate',
    env        => {
        REPLICATE_BASE_URL       => $provider->url . '/v1',
        REPLICATE_API_KEY        => 'replicate-api-key',
        REPLICATE_WEBHOOK_SECRET => $secret,
    },
    models     => ['luma/ray-2', 'a/../b'],
    server     => 'vidgen_retry attempts=1;');
my %input = (model_id => 'luma/ray-2', prompt => 'a cat', duration => 9);
my $bearer = 'authorization: Bearer replicate-api-key';

# submit

my $order = accepted('gm3q1');
is($order->{sent}, 'POST /v1/models/luma/ray-2/predictions {"input":{'
    . '"prompt":"a cat","duration":9,"aspect_ratio":"16:9"},'
    . '"webhook":"WEBHOOK","webhook_events_filter":["completed"]}',
    'what is asked');
is($wire->headers($order->{request}), $bearer, 'with these headers');
ok($wire->is_url($order, 'replicate'), 'the webhook\'s URL');
is_deeply([@{ $order->{answer}{json} }{qw(provider status)}],
    ['replicate', 'queued'], 'the client is told');
is($wire->job($order), 'queued gm3q1 - -', 'the job');

my $climbing = $wire->order({ %input, model_id => 'a/../b' },
    status => 201, body => '{"id":"x"}');
is($climbing->{answer}{status}, 400, 'a model that would leave its path');

# webhook

is(hook($order, prediction('gm3q1', '"processing"', 'null', 'null'))
    ->{status}, 200, 'processing');
is($wire->job($order), 'processing gm3q1 - -', 'the job');
is(hook($order, prediction('gm3q1', '"succeeded"',
    '"https://replicate.delivery/1.mp4"', 'null'))->{status}, 200,
    'succeeded');
is($wire->job($order), 'completed gm3q1 https://replicate.delivery/1.mp4 -',
    'the job');

$order = accepted('gm3q2');
hook($order, prediction('gm3q2', '"succeeded"',
    '["https://replicate.delivery/2.mp4","https://replicate.delivery/3.mp4"]',
    'null'));
is($wire->job($order), 'completed gm3q2 https://replicate.delivery/2.mp4 -',
    'a list of results');

$order = accepted('gm3q3');
hook($order, prediction('gm3q3', '"failed"', 'null', '"NSFW content"'));
is($wire->job($order), 'failed gm3q3 - NSFW content', 'failed');

$order = accepted('gm3q4');
hook($order, prediction('gm3q4', '"canceled"', 'null', 'null'));
is($wire->job($order), 'failed gm3q4 - -', 'canceled');

# poll

$order = accepted('gm3q5');
my $poll = $wire->poll($order, 'GET /v1/predictions/gm3q5',
    body => prediction('gm3q5', '"processing"', 'null', 'null'));
is($wire->headers($poll // {}), $bearer, 'a poll');
is($wire->job_in($order, 'processing'), 'processing gm3q5 - -', 'processing');
ok($wire->poll($order, 'GET /v1/predictions/gm3q5', body =>
    prediction('gm3q5', '"succeeded"', '["https://replicate.delivery/5.mp4"]',
    'null')), 'another poll');
is($wire->job_in($order, 'completed'),
    'completed gm3q5 https://replicate.delivery/5.mp4 -', 'succeeded');

# a request that is over the limit

$order = $wire->order(\%input, status => 429, body => '{"detail":"Request was'
    . ' throttled. Your rate limit resets in ~30s."}');
is($order->{answer}{status}, 503, 'throttled');

# probe

my $probe = $wire->asked('GET /v1/account');
is($wire->headers($probe), $bearer, 'a probe');

is_deeply([wrong_books($wire->pg)], [], 'the books are right');


sub accepted {
    my ($id) = @_;
    return $wire->order(\%input, status => 201,
        body => prediction($id, '"starting"', 'null', 'null'));
}

sub prediction {
    my ($id, $status, $output, $error) = @_;
    return qq({"id":"$id","model":"luma/ray-2","version":"hidden",)
        . qq("input":{"prompt":"a cat"},"logs":"","output":$output,)
        . qq("data_removed":false,"error":$error,"status":$status,)
        . qq("created_at":"2026-11-24T00:00:00.1Z","urls":{"get":)
        . qq("https://api.replicate.com/v1/predictions/$id"}});
}

sub hook {
    my ($order, $body) = @_;
    return $wire->hook($order, standard_webhook($body, secret => $secret),
        $body);
}
