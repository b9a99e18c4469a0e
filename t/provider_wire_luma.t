#!/usr/bin/perl

# providers/luma.conf against a stand-in that answers as Luma's Agents API is
# documented: generations are polled.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 14;

use VidgenTest::Books qw(wrong_books);
use VidgenTest::Provider;
use VidgenTest::Wire;

my $provider = VidgenTest::Provider->new;

# nobody's generation, asked for before anything else

my $nobody = '/v1/generations/00000000-0000-0000-0000-000000000000';
$provider->on("^GET \Q$nobody\E\$", status => 404,
    body => '{"detail":"Generation not found"}');

my $wire = VidgenTest::Wire->new(
    provider   => $provider,
    definition => 'luma',
    env        => {
        LUMA_BASE_URL => $provider->url . '/v1',
        LUMA_API_KEY  => 'luma-api-key',
    },
    hooks      => 0,
    models     => ['ray-3.2']);
my %input = (model_id => 'ray-3.2', prompt => 'a cat', duration => 10);
my $bearer = 'authorization: Bearer luma-api-key';
my $id = '123e4567-e89b-12d3-a456-426614174000';

# submit

my $order = $wire->order(\%input, status => 201,
    body => qq({"id":"$id","type":"video","state":"queued","output":[],)
        . '"created_at":"2026-11-24T00:00:00Z"}');
is($order->{sent}, 'POST /v1/generations {"model":"ray-3.2","type":"video",'
    . '"prompt":"a cat","aspect_ratio":"16:9","video":{"duration":"10s"}}',
    'what is asked');
is($wire->headers($order->{request}), $bearer, 'with these headers');
is_deeply([@{ $order->{answer}{json} }{qw(provider status)}],
    ['luma', 'queued'], 'the client is told');
is($wire->job($order), "queued $id - -", 'the job');

# poll

my $poll = $wire->poll($order, "GET /v1/generations/$id",
    body => qq({"id":"$id","state":"processing","output":[]}));
is($wire->headers($poll // {}), $bearer, 'a poll');
is($wire->job_in($order, 'processing'), "processing $id - -", 'processing');
ok($wire->poll($order, "GET /v1/generations/$id",
    body => qq({"id":"$id","state":"completed","output":[{"type":"video",)
        . '"url":"https://cdn.test/1.mp4"}],"failure_reason":null}'),
    'another poll');
is($wire->job_in($order, 'completed'),
    "completed $id https://cdn.test/1.mp4 -", 'completed');

$order = $wire->order(\%input, status => 201,
    body => '{"id":"l-2","state":"queued"}');
ok($wire->poll($order, 'GET /v1/generations/l-2', body => '{"id":"l-2",'
    . '"state":"failed","failure_code":"moderation","failure_reason":'
    . '"the prompt was moderated"}'), 'a poll');
is($wire->job_in($order, 'failed'), 'failed l-2 - the prompt was moderated',
    'failed');

$order = $wire->order(\%input, status => 422,
    body => '{"detail":"duration must be 5s or 10s"}');
is($order->{answer}{json}{error}, 'duration must be 5s or 10s',
    'what is refused says why');

# probe: 404 says that the key is good

my $probe = $wire->asked("GET $nobody");
is($wire->headers($probe), $bearer, 'a probe');
is($wire->health('luma'), 'healthy', 'its answer is healthy');

is_deeply([wrong_books($wire->pg)], [], 'the books are right');
