#!/usr/bin/perl

# providers/runway-tasks.conf against a stand-in that answers as Runway's tasks
# API is documented: tasks are polled.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 17;

use VidgenTest::Books qw(wrong_books);
use VidgenTest::Provider;
use VidgenTest::Wire;

my $provider = VidgenTest::Provider->new;

my $wire = VidgenTest::Wire->new(
    provider   => $provider,
    definition => 'runway-tasks',
    env        => {
        RUNWAY_TASKS_BASE_URL => $provider->url,
        RUNWAY_API_KEY        => 'runway-api-key',
    },
    hooks      => 0);
my $headers = "authorization: Bearer runway-api-key\n"
    . 'x-runway-version: 2024-11-06';
my $id = '17f20503-6c24-4c16-946b-35dbbce2af2f';
my $task = "GET /v1/tasks/$id";

# submit

my $order = $wire->order({ model_id => 'model-1', prompt => 'a cat',
    duration => 8, aspect_ratio => '9:16' }, body => qq({"id":"$id"}));
is($order->{sent}, 'POST /v1/text_to_video {"model":"model-1",'
    . '"promptText":"a cat","ratio":"720:1280","duration":8}',
    'what is asked');
is($wire->headers($order->{request}), $headers, 'with these headers');
is($order->{answer}{json}{provider}, 'runway-tasks', 'the client is told');
is($wire->job($order), "queued $id - -", 'the job');

my $other = $wire->order({ model_id => 'model-1', prompt => 'a cat' },
    body => '{"id":"t-2"}');
like($other->{sent}, qr/"ratio":"1280:720","duration":5/, 'what is usual');

my $refused = $wire->order({ model_id => 'model-1', prompt => 'a cat',
    aspect_ratio => '4:3' }, status => 400,
    body => '{"error":"Validation of body failed"}');
like($refused->{sent}, qr/"ratio":"4:3"/, 'a ratio that is not offered');
is_deeply([@{ $refused->{answer} }{qw(status)},
    $refused->{answer}{json}{error}], [422, 'Validation of body failed'],
    'is refused');

# poll

my $poll = $wire->poll($order, $task, body => qq({"id":"$id",)
    . '"status":"THROTTLED","createdAt":"2026-11-24T00:00:00Z"}');
is($wire->headers($poll // {}), $headers, 'a poll');
is($wire->job($order), "queued $id - -", 'throttled is queued');
ok($wire->poll($order, $task, body =>
    qq({"id":"$id","status":"RUNNING","progress":0.4})), 'another poll');
is($wire->job_in($order, 'processing'), "processing $id - -", 'running');
ok($wire->poll($order, $task, body => qq({"id":"$id","status":"SUCCEEDED",)
    . '"output":["https://cdn.test/1.mp4?sig=a%2Fb&x=1"]}'), 'the last poll');
is($wire->job_in($order, 'completed'),
    "completed $id https://cdn.test/1.mp4?sig=a%2Fb&x=1 -", 'succeeded');

ok($wire->poll($other, 'GET /v1/tasks/t-2', body => '{"id":"t-2",'
    . '"status":"FAILED","failure":"An unexpected error occurred.",'
    . '"failureCode":"INTERNAL.BAD_OUTPUT.CODE01"}'), 'a poll');
is($wire->job_in($other, 'failed'),
    'failed t-2 - An unexpected error occurred.', 'failed');

# probe

my $probe = $wire->asked('GET /v1/organization');
is($wire->headers($probe), $headers, 'a probe');

is_deeply([wrong_books($wire->pg)], [], 'the books are right');
