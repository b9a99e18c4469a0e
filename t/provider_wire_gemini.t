#!/usr/bin/perl

# providers/gemini.conf against a stand-in that answers as Gemini's
# Interactions API is documented: interactions are polled.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 16;

use VidgenTest::Books qw(wrong_books);
use VidgenTest::Provider;
use VidgenTest::Wire;

my $provider = VidgenTest::Provider->new;

my $wire = VidgenTest::Wire->new(
    provider   => $provider,
    definition => 'gemini',
    env        => {
        GEMINI_BASE_URL => $provider->url,
        GEMINI_API_KEY  => 'gemini-api-key',
    },
    hooks      => 0,
    models     => ['gemini-omni']);
my %input = (model_id => 'gemini-omni', prompt => 'a cat');
my $key = 'x-goog-api-key: gemini-api-key';

# submit

my $order = $wire->order(\%input, body => '{"id":"v1_abc","object":'
    . '"interaction","model":"gemini-omni","status":"in_progress"}');
is($order->{sent}, 'POST /v1beta/interactions {"model":"gemini-omni",'
    . '"input":"a cat","background":true,"response_format":{"type":"video",'
    . '"aspect_ratio":"16:9"}}', 'what is asked');
is($wire->headers($order->{request}), $key, 'with these headers');
is_deeply([@{ $order->{answer}{json} }{qw(provider status)}],
    ['gemini', 'processing'], 'the client is told');
is($wire->job($order), 'processing v1_abc - -', 'the job');

# poll

my $uri = '/v1beta/interactions/v1_abc';
my $poll = $wire->poll($order, "GET $uri",
    body => '{"id":"v1_abc","status":"in_progress"}');
is($wire->headers($poll // {}), $key, 'a poll');
is($wire->job($order), 'processing v1_abc - -', 'in progress');
ok($wire->poll($order, "GET $uri", body => '{"id":"v1_abc","status":'
    . '"completed","output_video":{"uri":"https://cdn.test/1:download?a=b",'
    . '"mime_type":"video/mp4"},"usage":{"total_tokens":9007199254740993}}'),
    'another poll');
is($wire->job_in($order, 'completed'),
    'completed v1_abc https://cdn.test/1:download?a=b -', 'completed');

# each way of failing

my $number = 0;
for my $status (qw(failed incomplete budget_exceeded cancelled
    requires_action))
{
    my $id = 'v1_' . ++$number;
    my $order = $wire->order(\%input, body => qq({"id":"$id","status":)
        . '"queued"}');
    $wire->poll($order, "GET /v1beta/interactions/$id", body => qq({"id":)
        . qq("$id","status":"$status","errors":[{"code":"3","message":)
        . '"blocked by policy"}]}');
    is($wire->job_in($order, 'failed'), "failed $id - blocked by policy",
        $status);
}

$order = $wire->order(\%input, status => 400, body => '{"error":{"code":400,'
    . '"message":"Unsupported aspect ratio.","status":"INVALID_ARGUMENT"}}');
is($order->{answer}{json}{error}, 'Unsupported aspect ratio.',
    'what is refused says why');

# probe

my $probe = $wire->asked('GET /v1beta/models');
is($wire->headers($probe), $key, 'a probe');

is_deeply([wrong_books($wire->pg)], [], 'the books are right');
