#!/usr/bin/perl

# providers/heygen.conf against a stand-in that answers as HeyGen's version 3
# is documented: a submit has a key, and webhooks sign the body alone.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Digest::SHA qw(hmac_sha256_hex);
use Test::More tests => 22;

use VidgenTest::Books qw(wrong_books);
use VidgenTest::Provider;
use VidgenTest::Wire;

my $secret = 'whsec_heygen-secret';
my $provider = VidgenTest::Provider->new;

my $wire = VidgenTest::Wire->new(
    provider   => $provider,
    definition => 'heygen',
    env        => {
        HEYGEN_BASE_URL       => $provider->url,
        HEYGEN_API_KEY        => 'heygen-api-key',
        HEYGEN_WEBHOOK_SECRET => $secret,
    },
    models     => ['Anna_public']);
my %input = (model_id => 'Anna_public', prompt => 'Good morning.',
    aspect_ratio => '9:16');

# submit

my $order = accepted('h-1');
is($order->{sent}, 'POST /v3/videos {"type":"avatar","avatar_id":"Anna_public"'
    . ',"script":"Good morning.","aspect_ratio":"9:16","callback_url":'
    . '"WEBHOOK","callback_id":"ATTEMPT"}', 'what is asked');
is($wire->headers($order->{request}), "idempotency-key: $order->{attempt}\n"
    . 'x-api-key: heygen-api-key', 'with these headers');
ok($wire->is_url($order, 'heygen'), 'the webhook\'s URL');
is_deeply([@{ $order->{answer}{json} }{qw(provider status)}],
    ['heygen', 'queued'], 'the client is told');
is($wire->job($order), 'queued h-1 - -', 'the job');

# the same key while it is being worked on

my $again = $wire->order(\%input, status => 409,
    body => '{"error":{"code":"request_in_progress","message":"wait"}}');
is($again->{answer}{status}, 202, 'a submit in progress is not refused');
is($again->{answer}{json}{status}, 'processing', 'it may be taken');

# webhook

my $done = event('success', 'h-1', $order, 'url' => 'https://cdn.test/1.mp4');
is(hook($order, $done, key => substr $secret, 6)->{status}, 401,
    'a key without whsec_');
is(hook($order, $done, time => time - 310)->{status}, 401, 'an old time');
is(hook($order, $done, time => time + 310)->{status}, 401, 'a time to come');
is(hook($order, event('success', 'h-1', $again, 'url' => 'https://x.test/'))
    ->{status}, 401, 'a callback id of another attempt');
is(hook($order, $done)->{status}, 200, 'success');
is($wire->job($order), 'completed h-1 https://cdn.test/1.mp4 -', 'the job');

$order = accepted('h-2');
hook($order, event('fail', 'h-2', $order, msg => 'the script is too long'));
is($wire->job($order), 'failed h-2 - the script is too long', 'fail');

# one that only its callback id names

$order = accepted('h-3');
my $plain = { %$order, url => 'https://hooks.test/?provider=heygen' };
is(hook($plain, event('success', 'h-3', $order, url => 'https://cdn.test/3'))
    ->{status}, 200, 'a webhook to the plain URL');
is($wire->job($order), 'completed h-3 https://cdn.test/3 -', 'the job');

is(hook($again, event('success', 'h-9', $again, url => 'https://cdn.test/9'))
    ->{status}, 200, 'a result of the submit that was in progress');
is($wire->job($again), 'completed h-9 https://cdn.test/9 -', 'the job');

# poll

$order = accepted('h-4');
my $poll = $wire->poll($order, 'GET /v3/videos/h-4',
    body => '{"data":{"id":"h-4","status":"waiting"}}');
is($wire->headers($poll // {}), 'x-api-key: heygen-api-key', 'a poll');
ok($wire->poll($order, 'GET /v3/videos/h-4', body => '{"data":{"id":"h-4",'
    . '"status":"completed","video_url":"https://cdn.test/4.mp4"}}'),
    'another poll');
is($wire->job_in($order, 'completed'),
    'completed h-4 https://cdn.test/4.mp4 -', 'completed');

is_deeply([wrong_books($wire->pg)], [], 'the books are right');


sub accepted {
    my ($id) = @_;
    return $wire->order(\%input,
        body => qq({"error":null,"data":{"video_id":"$id"}}));
}

sub event {
    my ($word, $id, $order, $name, $value) = @_;
    return qq({"event_type":"avatar_video.$word","event_data":{"video_id":)
        . qq("$id","callback_id":"$order->{attempt}","$name":"$value"}});
}

sub hook {
    my ($order, $body, %opt) = @_;
    return $wire->hook($order, {
        'Heygen-Event-Id'  => 'event-1',
        'Heygen-Timestamp' => $opt{time} // time,
        'Heygen-Signature' => hmac_sha256_hex($body, $opt{key} // $secret),
    }, $body);
}
