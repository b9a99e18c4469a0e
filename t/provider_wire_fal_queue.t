#!/usr/bin/perl

# providers/fal-queue.conf against a stand-in that answers as fal.ai's queue is
# documented: URLs of its own for status and result, webhooks signed by Ed25519
# with a key of a set.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA qw(sha256_hex);
use Test::More tests => 36;

use VidgenTest::Books qw(wrong_books);
use VidgenTest::Ed25519;
use VidgenTest::Provider;
use VidgenTest::Util qw(wait_for);
use VidgenTest::Wire;

my $provider = VidgenTest::Provider->new;
my ($key, $other) = map { VidgenTest::Ed25519->new } 1 .. 2;

$provider->on('^GET /.well-known/jwks.json$', body => { keys => [
    { kty => 'RSA', n => 'AQAB', e => 'AQAB' }, $other->jwk, $key->jwk ] });
$provider->on('^GET /v1/meta$', body => { webhook_ip_ranges => [] });

my $model = 'fal-ai/veo3/fast';
my $wire = VidgenTest::Wire->new(
    provider   => $provider,
    definition => 'fal-queue',
    env        => {
        FAL_QUEUE_BASE_URL => $provider->url,
        FAL_API_KEY        => 'fal-api-key',
    },
    hosts      => {
        'https://rest.fal.ai' => $provider->url,
        'https://api.fal.ai'  => $provider->url,
    },
    models     => [$model]);
my $authorization = 'authorization: Key fal-api-key';

# submit

my $order = accepted('q-1');
is($order->{sent}, "POST /$model?fal_webhook=WEBHOOK {\"prompt\":\"a cat\","
    . '"duration":"8","aspect_ratio":"16:9"}', 'what is asked');
is($wire->headers($order->{request}), $authorization, 'with these headers');
ok($wire->is_url($order, 'fal-queue'), 'the webhook\'s URL');
is_deeply([@{ $order->{answer}{json} }{qw(provider status)}],
    ['fal-queue', 'queued'], 'the client is told');
is($wire->job($order), 'queued q-1 - -', 'the job');

# webhook

my $ok = '{"request_id":"q-1","gateway_request_id":"q-1","status":"OK",'
    . '"error":null,"payload":{"video":{"url":"https://v3.fal.media/1.mp4",'
    . '"content_type":"video/mp4","file_size":1234}}}';

ok(wait_for { hook($order, $ok)->{status} != 503 }, 'the key set comes');
is($wire->job($order), 'completed q-1 https://v3.fal.media/1.mp4 -', 'OK');
is(hook($order, $ok)->{headers}{'x-idempotent-replay'}, 'true', 'again');

is(hook($order, $ok, key => VidgenTest::Ed25519->new)->{status}, 401,
    'a key that is not in the set');
is(hook($order, $ok, body => "$ok ")->{status}, 401, 'another body');
is(hook($order, $ok, user => 'somebody')->{status}, 401, 'another user');
is(hook($order, $ok, time => time - 310)->{status}, 401, 'an old time');

$order = accepted('q-2');
hook($order, '{"request_id":"q-2","status":"ERROR","error":"Invalid status'
    . ' code: 422","payload":{"detail":[{"loc":["body","prompt"],"msg":'
    . '"content policy","type":"content_policy_violation"}]}}',
    key => $other);
is($wire->job($order), 'failed q-2 - content policy',
    'ERROR, signed by another key of the set');

$order = accepted('q-3');
hook($order, '{"request_id":"q-3","status":"ERROR","error":"runner died",'
    . '"payload":null}');
is($wire->job($order), 'failed q-3 - runner died', 'ERROR without payload');

# poll: a status, then the result

$order = accepted('q-4');
my $status = 'GET /fal-ai/veo3/requests/q-4/status';
my $result = 'GET /fal-ai/veo3/requests/q-4';
my $poll = $wire->poll($order, $status, status => 202, body =>
    '{"status":"IN_QUEUE","queue_position":2,"request_id":"q-4"}');
is($wire->headers($poll // {}), $authorization, 'a poll');
is($wire->job($order), 'queued q-4 - -', 'in the queue');
ok($wire->poll($order, $status, status => 202,
    body => '{"status":"IN_PROGRESS","logs":null}'), 'another poll');
is($wire->job_in($order, 'processing'), 'processing q-4 - -', 'in progress');

$provider->on("^\Q$result\E\$",
    body => '{"video":{"url":"https://v3.fal.media/4.mp4"}}');
ok($wire->poll($order, $status, body => '{"status":"COMPLETED","metrics":'
    . '{"inference_time":42.5}}'), 'the last poll');
is($wire->job_in($order, 'completed'),
    'completed q-4 https://v3.fal.media/4.mp4 -', 'completed');
my ($then) = grep { "$_->{method} $_->{uri}" eq $result }
    @{ $provider->requests };
is($wire->headers($then // {}), $authorization, 'by a second request');

$order = accepted('q-5');
$provider->on('^GET /fal-ai/veo3/requests/q-5$', status => 422, body =>
    '{"detail":[{"loc":["body"],"msg":"unsafe image","type":"unsafe"}]}');
ok($wire->poll($order, 'GET /fal-ai/veo3/requests/q-5/status',
    body => '{"status":"COMPLETED"}'), 'a poll');
is($wire->job_in($order, 'failed'), 'failed q-5 - unsafe image',
    'a result of 422');

$order = accepted('q-6');
ok($wire->poll($order, 'GET /fal-ai/veo3/requests/q-6/status', body =>
    '{"status":"COMPLETED","error":"Request timed out","error_type":'
    . '"request_timeout"}'), 'a poll');
is($wire->job_in($order, 'failed'), 'failed q-6 - Request timed out',
    'completed with an error');

# an error of no type is no verdict, nor is a word that is new

$order = accepted('q-7');
$status = 'GET /fal-ai/veo3/requests/q-7/status';
ok($wire->poll($order, $status, body => $_), "a poll: $_")
    for '{"status":"IN_PROGRESS","error":"temporary"}',
        '{"status":"PAUSED"}', '{"error_type":"solar_flare"}';
is($wire->job_in($order, 'processing'), 'processing q-7 - -',
    'none is a failure');
$result = '^GET /fal-ai/veo3/requests/q-7$';
$provider->script($result, { status => 404, body => '{"detail":"not yet"}' },
    { status => 400, body => '{"detail":"Runner died"}' });
ok($wire->poll($order, $status,
    body => '{"status":"COMPLETED","error":"Runner died"}'), 'the last poll');
is($wire->job_in($order, 'failed'), 'failed q-7 - Runner died',
    'the result says that it failed, though not by a 404');
my @results = grep { "$_->{method} $_->{uri}" =~ $result }
    @{ $provider->requests };
is(scalar @results, 2, 'asked for twice');

# what is refused

$order = $wire->order({ model_id => $model, prompt => 'a cat' },
    status => 422, body => '{"detail":[{"loc":["body","duration"],"msg":'
    . '"unexpected value","type":"value_error"}]}');
is($order->{answer}{json}{error}, 'unexpected value', 'says why');

# probe, key set

my $probe = $wire->asked('GET /v1/meta');
is($wire->headers($probe), $authorization, 'a probe');
is($wire->health('fal-queue'), 'healthy', 'it is healthy');

is_deeply([wrong_books($wire->pg)], [], 'the books are right');


# The status URL leaves out the part of the path after owner/app.
sub accepted {
    my ($id) = @_;
    my $url = $provider->url . "/fal-ai/veo3/requests/$id";
    return $wire->order({ model_id => $model, prompt => 'a cat',
        duration => 8 }, body => qq({"status":"IN_QUEUE","request_id":"$id",)
        . qq("response_url":"$url","status_url":"$url/status",)
        . qq("cancel_url":"$url/cancel","queue_position":0}));
}

# Options: what is sent in place of what was signed, or the key.
sub hook {
    my ($order, $signed, %opt) = @_;

    my %part = (id => 'a-1', user => 'user-1', time => time);
    my $time = $opt{time} // $part{time};
    my $text = join "\n", @part{qw(id user)}, $time, sha256_hex($signed);
    return $wire->hook($order, {
        'X-Fal-Webhook-Request-Id' => $part{id},
        'X-Fal-Webhook-User-Id'    => $opt{user} // $part{user},
        'X-Fal-Webhook-Timestamp'  => $time,
        'X-Fal-Webhook-Signature'  =>
            unpack('H*', ($opt{key} // $key)->sign($text)),
    }, $opt{body} // $signed);
}
