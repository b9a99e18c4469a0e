#!/usr/bin/perl

# providers/pika.conf against a provider as the integration document describes
# Pika: it is polled, and there are no webhooks.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 14;

use VidgenTest::Books qw(wrong_books);
use VidgenTest::Http qw(post);
use VidgenTest::Provider;
use VidgenTest::Wire;

my $provider = VidgenTest::Provider->new;

my $wire = VidgenTest::Wire->new(
    provider   => $provider,
    definition => 'pika',
    env        => {
        PIKA_BASE_URL => $provider->url . '/pika/',
        PIKA_API_KEY  => 'pika-api-key',
    },
    hooks      => 0);
my %input = (model_id => 'model-1', prompt => 'a cat');

# submit

my $order = $wire->order(\%input, body => '{"job_id":"p-1"}');
is($order->{sent}, 'POST /pika/v1/generate {"text":"a cat",'
    . '"model":"model-1"}', 'what is asked');
is($wire->headers($order->{request}), 'x-api-key: pika-api-key',
    'with these headers');
is_deeply([@{ $order->{answer}{json} }{qw(provider status estimated_time)}],
    ['pika', 'processing', 90], 'the client is told');
is($wire->job($order), 'processing p-1 - -', 'the job');

# poll

my $poll = $wire->poll($order, 'GET /pika/v1/jobs/p-1',
    body => '{"status":"processing"}');
is($wire->headers($poll), 'x-api-key: pika-api-key', 'a poll');
is($wire->job($order), 'processing p-1 - -', 'processing');
ok($wire->poll($order, 'GET /pika/v1/jobs/p-1', body =>
    '{"status":"done","result_url":"https://cdn.test/1.mp4","error":null}'),
    'another poll');
is($wire->job_in($order, 'completed'),
    'completed p-1 https://cdn.test/1.mp4 -', 'completed');

$order = $wire->order(\%input, body => '{"job_id":17}');
ok($wire->poll($order, 'GET /pika/v1/jobs/17',
    body => '{"status":"failed","error":"no GPU"}'), 'a poll');
is($wire->job_in($order, 'failed'), 'failed 17 - no GPU', 'failed');

# no webhook; a probe

my $body = '{"job_id":"p-1","status":"done"}';
is(post($wire->nginx->url('/video-webhook?provider=pika'), $body)->{status},
    401, 'a webhook is refused');
my $probe = $wire->asked('GET /pika/v1/status');
is($wire->headers($probe), 'x-api-key: pika-api-key', 'a probe');
is($probe->{method}, 'GET', 'by GET');

is_deeply([wrong_books($wire->pg)], [], 'the books are right');
