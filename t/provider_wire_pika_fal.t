#!/usr/bin/perl

# providers/pika-fal.conf against a stand-in that answers as fal.ai's queue is
# documented.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA qw(sha256_hex);
use Test::More tests => 13;

use VidgenTest::Books qw(wrong_books);
use VidgenTest::Ed25519;
use VidgenTest::Provider;
use VidgenTest::Util qw(wait_for);
use VidgenTest::Wire;

my $provider = VidgenTest::Provider->new;
my $key = VidgenTest::Ed25519->new;

$provider->on('^GET /.well-known/jwks.json$', body => { keys => [$key->jwk] });

my $wire = VidgenTest::Wire->new(
    provider   => $provider,
    definition => 'pika-fal',
    env        => {
        FAL_QUEUE_BASE_URL => $provider->url,
        FAL_API_KEY        => 'fal-api-key',
    },
    hosts      => {
        'https://rest.fal.ai' => $provider->url,
        'https://api.fal.ai'  => $provider->url,
    });
my $authorization = 'authorization: Key fal-api-key';

# submit

my $order = accepted('q-1');
is($order->{sent}, 'POST /fal-ai/pika/v2.2/text-to-video?fal_webhook=WEBHOOK '
    . '{"prompt":"a cat","duration":10,"aspect_ratio":"1:1",'
    . '"resolution":"720p"}', 'what is asked');
is($wire->headers($order->{request}), $authorization, 'with these headers');
ok($wire->is_url($order, 'pika-fal'), 'the webhook\'s URL');
is($wire->job($order), 'queued q-1 - -', 'the job');

# webhook

my $ok = '{"request_id":"q-1","status":"OK","payload":{"video":{"url":'
    . '"https://v3.fal.media/1.mp4"}}}';
ok(wait_for { hook($order, $ok)->{status} == 200 }, 'OK');
is($wire->job($order), 'completed q-1 https://v3.fal.media/1.mp4 -',
    'the job');

$order = accepted('q-2');
hook($order, '{"request_id":"q-2","status":"ERROR","payload":{"detail":'
    . '"Queue is full"}}');
is($wire->job($order), 'failed q-2 - Queue is full', 'ERROR');

# poll

$order = accepted('q-3');
$provider->on('^GET /fal-ai/pika/requests/q-3$',
    body => '{"video":{"url":"https://v3.fal.media/3.mp4"}}');
my $poll = $wire->poll($order, 'GET /fal-ai/pika/requests/q-3/status',
    body => '{"status":"COMPLETED","request_id":"q-3"}');
is($wire->headers($poll // {}), $authorization, 'a poll');
is($wire->job_in($order, 'completed'),
    'completed q-3 https://v3.fal.media/3.mp4 -', 'completed');

# a URL that leads elsewhere is not followed with our key

my $elsewhere = VidgenTest::Provider->new;
$order = $wire->order({ model_id => 'model-1', prompt => 'a cat' },
    body => '{"request_id":"q-4","status_url":"' . $elsewhere->url . '/4"}');
$wire->pg->query('UPDATE vidgen.attempts SET due = now()'
    . " WHERE id = '$order->{attempt}'");
ok($wire->nginx->wait_log(qr/vidgen: job "$order->{job}" cannot be polled/),
    'a status URL of another host');
is_deeply($elsewhere->requests, [], 'is not asked for');
wait_for { $wire->pg->value("SELECT polls FROM vidgen.attempts
    WHERE id = '$order->{attempt}'") > 3 };
my @said = $wire->nginx->error_log
    =~ /\[(?:crit|error)\].* cannot be polled/g;
is(scalar @said, 1, 'and said once, not at each poll');

is_deeply([wrong_books($wire->pg)], [], 'the books are right');


sub accepted {
    my ($id) = @_;
    my $url = $provider->url . "/fal-ai/pika/requests/$id";
    return $wire->order({ model_id => 'model-1', prompt => 'a cat',
        duration => 10, aspect_ratio => '1:1' }, body => qq({"request_id":)
        . qq("$id","response_url":"$url","status_url":"$url/status"}));
}

sub hook {
    my ($order, $body) = @_;
    my ($id, $user, $time) = ('a-1', 'user-1', time);
    return $wire->hook($order, {
        'X-Fal-Webhook-Request-Id' => $id,
        'X-Fal-Webhook-User-Id'    => $user,
        'X-Fal-Webhook-Timestamp'  => $time,
        'X-Fal-Webhook-Signature'  => unpack('H*', $key->sign(
            join "\n", $id, $user, $time, sha256_hex($body))),
    }, $body);
}
