#!/usr/bin/perl

# providers/minimax.conf against a stand-in that answers as MiniMax's version 1
# is documented: refusals with a status of 200, callbacks that nobody signs, a
# result that is a file.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 27;

use VidgenTest::Books qw(wrong_books);
use VidgenTest::Provider;
use VidgenTest::Util qw(wait_for);
use VidgenTest::Wire;

my $provider = VidgenTest::Provider->new;

my $wire = VidgenTest::Wire->new(
    provider   => $provider,
    definition => 'minimax',
    env        => {
        MINIMAX_BASE_URL => $provider->url,
        MINIMAX_API_KEY  => 'minimax-api-key',
    },
    generate   => 'vidgen_retry attempts=1;',
    models     => ['MiniMax-Hailuo-02']);
my %input = (model_id => 'MiniMax-Hailuo-02', prompt => 'a cat',
    duration => 6);
my $bearer = 'authorization: Bearer minimax-api-key';
my $fine = '"base_resp":{"status_code":0,"status_msg":"success"}';

# submit

my $order = accepted('m-1');
is($order->{sent}, 'POST /v1/video_generation {"model":"MiniMax-Hailuo-02",'
    . '"prompt":"a cat","duration":6,"callback_url":"WEBHOOK"}',
    'what is asked');
is($wire->headers($order->{request}), $bearer, 'with these headers');
ok($wire->is_url($order, 'minimax'), 'the webhook\'s URL');
is_deeply([@{ $order->{answer}{json} }{qw(provider status)}],
    ['minimax', 'queued'], 'the client is told');
is($wire->job($order), 'queued m-1 - -', 'the job');

# answers of 200 that accept nothing

my $refused = refused(1026, 'sensitive content');
is_deeply([$refused->{answer}{status}, $refused->{answer}{json}{error}],
    [422, 'sensitive content'], 'unsafe content is refused');
is(refused(1008, 'insufficient balance')->{answer}{status}, 502,
    'without balance another provider would be asked');
is(refused(1000, 'unknown error')->{answer}{status}, 202,
    'what is not known may have been taken');

# the challenge

my $challenge = '{"challenge": "a1b2"}';
my $answer = $wire->hook($order, {}, $challenge);
is("$answer->{status} $answer->{body}", "200 $challenge", 'is echoed');
my $stranger = { %$order, url => $order->{url} =~ s/token=./token=x/r };
is($wire->hook($stranger, {}, $challenge)->{status}, 401,
    'to nobody without the token');

# callbacks: a poll decides

is($wire->hook($stranger, {}, callback('m-1', 'success'))->{status}, 401,
    'one without the token');
queried('m-1', 'Processing');
is($wire->hook($order, {}, callback('m-1', 'success'))->{status}, 200,
    'one that says success');
ok(asked('/v1/query/video_generation?task_id=m-1'), 'has the task queried');
is($wire->job_in($order, 'processing'), 'processing m-1 - -',
    'and is not believed');

queried('m-1', 'Success', '"file_id":"205258526306433",'
    . '"video_width":1366,');
$provider->on('GET /v1/files/retrieve\?file_id=205258526306433$',
    body => '{"file":{"file_id":205258526306433,"bytes":0,"filename":'
    . '"output.mp4","download_url":"https://cdn.test/1.mp4"},' . "$fine}");
is($wire->hook($order, {}, callback('m-1', 'success'))->{status}, 200,
    'another');
is($wire->job_in($order, 'completed'),
    'completed m-1 https://cdn.test/1.mp4 -', 'completed by the query');
my $query = asked('/v1/query/video_generation?task_id=m-1');
is($wire->headers($query // {}), $bearer, 'the query');
my $file = asked('/v1/files/retrieve?file_id=205258526306433');
is($wire->headers($file // {}), $bearer, 'and what it leads to');

$order = accepted('m-2');
queried('m-2', 'Fail');
is($wire->hook($order, {}, callback('m-2', 'failed'))->{status}, 200,
    'one that says failed');
is($wire->job_in($order, 'failed'), 'failed m-2 - -', 'failed by the query');

$order = accepted('m-3');
queried('m-3', 'Queueing');
is($wire->hook($order, {}, callback('m-3', 'failed'))->{status}, 200,
    'one that says failed, against the query');
ok(asked('/v1/query/video_generation?task_id=m-3'), 'is looked into');
is($wire->job($order), 'queued m-3 - -', 'and not believed');
is($wire->pg->value("SELECT count(*) FROM vidgen.ledger WHERE entry = 'refund'
    AND job_id = '$order->{job}'"), 0, 'nothing is refunded');

# a poll that is refused says nothing of the task

$order = accepted('m-4');
my $uri = '/v1/query/video_generation?task_id=m-4';
ok($wire->poll($order, "GET $uri", body => '{"task_id":"","status":"",'
    . '"base_resp":{"status_code":1002,"status_msg":"rate limit"}}'),
    'a query that is refused');
is($wire->job($order), 'queued m-4 - -', 'says nothing');

is_deeply([wrong_books($wire->pg)], [], 'the books are right');


sub accepted {
    my ($id) = @_;
    return $wire->order(\%input, body => qq({"task_id":"$id",$fine}));
}

sub refused {
    my ($code, $message) = @_;
    return $wire->order(\%input, body => qq({"task_id":"","base_resp":)
        . qq({"status_code":$code,"status_msg":"$message"}}));
}

sub callback {
    my ($id, $status) = @_;
    return qq({"task_id":"$id","status":"$status",)
        . ($status eq 'success' ? '"file_id":"1",' : '') . "$fine}";
}

# From now on a query of the task says this.
sub queried {
    my ($id, $status, $more) = @_;
    $provider->on("GET /v1/query/video_generation\\?task_id=$id\$",
        body => qq({"task_id":"$id","status":"$status",) . ($more // '')
        . "$fine}");
}

# A request for this URI, waited for.
sub asked {
    my ($uri) = @_;
    return wait_for {
        my ($found) = grep { $_->{uri} eq $uri } @{ $provider->requests };
        return $found;
    };
}
