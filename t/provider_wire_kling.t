#!/usr/bin/perl

# providers/kling.conf against a stand-in that answers as Kling's API is
# documented: every answer is an envelope with a code of its own, webhooks are
# signed by Standard Webhooks.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 23;

use VidgenTest::Books qw(wrong_books);
use VidgenTest::Provider;
use VidgenTest::Wire qw(standard_webhook);

my $secret = 'whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD';
my $provider = VidgenTest::Provider->new;
$provider->on('^GET /tasks\?external_task_ids=probe$', status => 404,
    body => '{"code":1203,"message":"task not found"}');

my $wire = VidgenTest::Wire->new(
    provider   => $provider,
    definition => 'kling',
    env        => {
        KLING_BASE_URL       => $provider->url,
        KLING_API_KEY        => 'kling-api-key',
        KLING_WEBHOOK_SECRET => $secret,
    },
    generate   => 'vidgen_retry attempts=1;',
    models     => ['kling-3.0']);
my %input = (model_id => 'kling-3.0', prompt => 'a cat', duration => 10);
my $bearer = 'authorization: Bearer kling-api-key';

# submit

my $order = $wire->order(\%input, body => task('k-1', 'submitted'));
is($order->{sent}, 'POST /text-to-video/kling-3.0 {"prompt":"a cat",'
    . '"settings":{"duration":10,"aspect_ratio":"16:9"},"options":'
    . '{"callback_url":"WEBHOOK","external_task_id":"ATTEMPT"}}',
    'what is asked');
is($wire->headers($order->{request}), $bearer, 'with these headers');
ok($wire->is_url($order, 'kling'), 'the webhook\'s URL');
is_deeply([@{ $order->{answer}{json} }{qw(provider status)}],
    ['kling', 'queued'], 'the client is told');
is($wire->job($order), 'queued k-1 - -', 'the job');

# answers of 200 that accept nothing

my $refused = $wire->order(\%input, body =>
    '{"code":1303,"message":"parallel task over resource pack limit"}');
is($refused->{answer}{status}, 502, 'too many at a time');
is($wire->job($refused), 'failed - - parallel task over resource pack limit',
    'and not taken');
$refused = $wire->order(\%input, body => '{"code":1200,"message":"strange"}');
is($refused->{answer}{status}, 202, 'another code');
is($refused->{answer}{json}{status}, 'processing', 'may have been taken');

# webhook

is(hook($order, '{"id":"k-1","status":"processing"}')->{status}, 200,
    'processing');
is($wire->job($order), 'processing k-1 - -', 'the job');
is(hook($order, '{"id":"k-1","external_task_id":"x","status":"succeeded",'
    . '"message":"","outputs":[{"id":"o","type":"video","url":'
    . '"https://cdn.test/1.mp4","duration":"10"}]}')->{status}, 200,
    'succeeded');
is($wire->job($order), 'completed k-1 https://cdn.test/1.mp4 -', 'the job');

$order = $wire->order(\%input, body => task('k-2', 'submitted'));
hook($order, '{"id":"k-2","status":"failed","message":"risk control"}');
is($wire->job($order), 'failed k-2 - risk control', 'failed');

# poll

$order = $wire->order(\%input, body => task('k-3', 'submitted'));
my $uri = "/tasks?external_task_ids=$order->{attempt}";
my $poll = $wire->poll($order, "GET $uri", body => tasks('k-3', 'processing'));
is($wire->headers($poll // {}), $bearer, 'a poll');
is($wire->job_in($order, 'processing'), 'processing k-3 - -', 'processing');
ok($wire->poll($order, "GET $uri", body => '{"code":1000,"message":"auth"}'),
    'an answer that says nothing');
ok($wire->poll($order, "GET $uri", body => tasks('k-3', 'succeeded',
    '"outputs":[{"url":"https://cdn.test/3.mp4"}]')), 'another poll');
is($wire->job_in($order, 'completed'),
    'completed k-3 https://cdn.test/3.mp4 -', 'succeeded');

# the limit as it comes with a status of its own

$refused = $wire->order(\%input, status => 429,
    body => '{"code":1303,"message":"parallel"}');
is($refused->{answer}{status}, 503, 'too many, as 429');

# probe

my $probe = $wire->asked('GET /tasks?external_task_ids=probe');
is($wire->headers($probe), $bearer, 'a probe');
is($wire->health('kling'), 'healthy', 'that finds nothing is healthy');

is_deeply([wrong_books($wire->pg)], [], 'the books are right');


sub task {
    my ($id, $status) = @_;
    return qq({"code":0,"message":"SUCCEED","request_id":"r","data":)
        . qq({"id":"$id","status":"$status","create_time":1722769557708}});
}

sub tasks {
    my ($id, $status, $more) = @_;
    return qq({"code":0,"message":"SUCCEED","data":[{"id":"$id",)
        . ($more ? "$more," : '') . qq("status":"$status"}]});
}

sub hook {
    my ($order, $body) = @_;
    return $wire->hook($order, standard_webhook($body, secret => $secret),
        $body);
}
