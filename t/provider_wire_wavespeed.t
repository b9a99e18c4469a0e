#!/usr/bin/perl

# providers/wavespeed.conf against a stand-in that answers as WaveSpeed's API
# is documented: an envelope around answers, and webhooks without one, signed
# by a key that is not decoded.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA qw(hmac_sha256_hex);
use Test::More tests => 19;

use VidgenTest::Books qw(wrong_books);
use VidgenTest::Provider;
use VidgenTest::Wire qw(standard_webhook);

my $secret = 'whsec_0123456789abcdef0123456789abcdef';
my $provider = VidgenTest::Provider->new;

my $model = 'wavespeed-ai/wan-2.2/t2v-480p';
my $wire = VidgenTest::Wire->new(
    provider   => $provider,
    definition => 'wavespeed',
    env        => {
        WAVESPEED_BASE_URL       => $provider->url . '/api/v3',
        WAVESPEED_API_KEY        => 'wavespeed-api-key',
        WAVESPEED_WEBHOOK_SECRET => $secret,
    },
    models     => [$model]);
my %input = (model_id => $model, prompt => 'a cat');
my $bearer = 'authorization: Bearer wavespeed-api-key';

# submit

my $order = $wire->order(\%input, body => task('w-1', 'created'));
is($order->{sent}, "POST /api/v3/$model?webhook=WEBHOOK {\"prompt\":\"a cat\","
    . '"duration":5,"aspect_ratio":"16:9"}', 'what is asked');
is($wire->headers($order->{request}), $bearer, 'with these headers');
ok($wire->is_url($order, 'wavespeed'), 'the webhook\'s URL');
is_deeply([@{ $order->{answer}{json} }{qw(provider status)}],
    ['wavespeed', 'queued'], 'the client is told');
is($wire->job($order), 'queued w-1 - -', 'the job');

my $refused = $wire->order(\%input, body => task('w-0', 'failed',
    '"error":"unsafe prompt"'));
is($refused->{answer}{status}, 422, 'a task that has failed at once');
is($refused->{answer}{json}{error}, 'unsafe prompt', 'is refused');

# webhook

my $body = '{"id":"w-1","model":"m","status":"processing","outputs":[],'
    . '"error":""}';
is($wire->hook($order, standard_webhook($body, secret => $secret), $body)
    ->{status}, 401, 'a signature as Standard Webhooks has it');
is(hook($order, $body)->{status}, 200, 'processing');
is($wire->job($order), 'processing w-1 - -', 'the job');
is(hook($order, '{"id":"w-1","status":"completed","outputs":'
    . '["https://cdn.test/1.mp4"],"error":""}')->{status}, 200, 'completed');
is($wire->job($order), 'completed w-1 https://cdn.test/1.mp4 -', 'the job');

$order = $wire->order(\%input, body => task('w-2', 'created'));
hook($order, '{"id":"w-2","status":"failed","outputs":[],"error":"no GPU"}');
is($wire->job($order), 'failed w-2 - no GPU', 'failed');

# poll

$order = $wire->order(\%input, body => task('w-3', 'created'));
my $uri = '/api/v3/predictions/w-3';
my $poll = $wire->poll($order, "GET $uri", body => task('w-3', 'processing'));
is($wire->headers($poll // {}), $bearer, 'a poll');
is($wire->job_in($order, 'processing'), 'processing w-3 - -', 'processing');
ok($wire->poll($order, "GET $uri", body => task('w-3', 'completed',
    '"outputs":["https://cdn.test/3.mp4"]')), 'another poll');
is($wire->job_in($order, 'completed'),
    'completed w-3 https://cdn.test/3.mp4 -', 'completed');

ok(!grep({ $_->{method} eq 'GET' && $_->{uri} !~ /predictions/ }
    @{ $provider->requests }), 'no probe');

is_deeply([wrong_books($wire->pg)], [], 'the books are right');


sub task {
    my ($id, $status, $more) = @_;
    return qq({"code":200,"message":"success","data":{"id":"$id",)
        . ($more ? "$more," : '') . qq("model":"m","status":"$status",)
        . '"urls":{"get":"https://api.wavespeed.ai/x"},"has_nsfw_contents":[],'
        . '"timings":{"inference":0}}}';
}

sub hook {
    my ($order, $body) = @_;
    my ($id, $time) = ('wh-1', time);
    return $wire->hook($order, { 'webhook-id' => $id,
        'webhook-timestamp' => $time, 'webhook-signature' => 'v3,'
        . hmac_sha256_hex("$id.$time.$body", substr $secret, 6) }, $body);
}
