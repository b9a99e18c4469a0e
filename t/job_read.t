#!/usr/bin/perl

# vidgen_job: a job as its user sees it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 40;

use VidgenTest::Books qw(customer everything);
use VidgenTest::Http qw(get post request);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Util qw(uuid);

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $provider = VidgenTest::Provider->new;

my $nginx = VidgenTest::Nginx->new(
    vars => { DB => $pg->edge_conninfo },
    env  => {
        FAL_BASE_URL       => $provider->url,
        FAL_API_KEY        => 'test-api-key',
        FAL_WEBHOOK_SECRET => $provider->secret,
    },
    config => <<'EOT')->start;
%%GLOBALS%%

events { }

http {
    %%HTTP%%

    vidgen_database "%%DB%%" timeout=1m;
    vidgen_monitor  off;
    include         %%PROVIDERS%%/fal.conf;

    server {
        listen 127.0.0.1:%%PORT%%;

        vidgen_webhook_url            https://example.com/hook;
        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;

        location = /generate-video { vidgen_generate; }
        location = /video-webhook  { vidgen_webhook; }
        location /video-jobs/      { vidgen_job; }
        location /my-jobs/         { vidgen_job;
                                     vidgen_user_id $http_x_user; }
    }
}
EOT

my $user = customer($pg, 10);
my $other = customer($pg, 10);
$pg->query("INSERT INTO models (id, credits_per_generation)
    VALUES ('vision-1', 4)");


sub order {
    my $answer = post($nginx->url('/generate-video'), { user_id => $user,
        model_id => 'vision-1', prompt => 'p' });
    return ($answer->{json}{job_id}, $provider->requests->[-1]{id});
}

sub webhook {
    my (%args) = @_;
    my ($headers, $body) = $provider->signed_webhook(%args);
    return post($nginx->url('/video-webhook'), $body, $headers)->{status};
}


# queued

my ($job, $id) = order();
my $answer = get($nginx->url("/video-jobs/$job"));
my $created = $answer->{json}{created_at};

is($answer->{status}, 200, 'a job');
is($answer->{body}, qq({"job_id":"$job","provider":"fal.ai",)
    . '"status":"queued","video_url":null,"error":null,'
    . '"estimated_time":120,"provider_attempts":1,"credits_used":4,'
    . qq("created_at":"$created","completed_at":null}), 'that is queued');
is($answer->{headers}{'content-type'}, 'application/json', 'JSON');
is($answer->{headers}{'cache-control'}, 'no-store', 'not to be stored');
ok($pg->value("SELECT '$created'::timestamptz = date_trunc('milliseconds',
    created_at) FROM video_jobs"), 'when it was made');
like($created, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/, 'ISO 8601');

my $before = everything($pg);
my $head = request('HEAD', $nginx->url("/video-jobs/$job"));
is("$head->{status} $head->{headers}{'content-length'}",
    '200 ' . length $answer->{body}, 'HEAD has the length');
is($head->{body}, '', 'and no body');
is(get($nginx->url("/video-jobs/\U$job"))->{body}, $answer->{body},
    'in upper case');
is(get($nginx->url("/video-jobs/some/path/$job?x=y"))->{body},
    $answer->{body}, 'the last segment counts');

# processing

is(webhook(id => $id, status => 'processing'), 200, 'it is being made');
is(get($nginx->url("/video-jobs/$job"))->{json}{status}, 'processing',
    'processing');

# completed

is(webhook(id => $id, video_url => 'https://cdn.test/"a"?b=c&d'), 200,
    'it is completed');
$answer = get($nginx->url("/video-jobs/$job"));
my $completed = $answer->{json}{completed_at};
is($answer->{body}, qq({"job_id":"$job","provider":"fal.ai",)
    . '"status":"completed","video_url":"https://cdn.test/\"a\"?b=c&d",'
    . '"error":null,"estimated_time":120,"provider_attempts":1,'
    . qq("credits_used":4,"created_at":"$created",)
    . qq("completed_at":"$completed"}), 'completed');
ok($pg->value("SELECT '$completed'::timestamptz = date_trunc('milliseconds',
    completed_at) FROM video_jobs"), 'when');

# failed

my ($second, $second_id) = order();
is(webhook(id => $second_id, status => 'failed',
    error => "out of\nmemory \xe9"), 200, 'another one fails');
$answer = get($nginx->url("/video-jobs/$second"));
is($answer->{json}{status}, 'failed', 'failed');
is($answer->{json}{error}, "out of memory \xe9", 'why, in one line');
is($answer->{json}{completed_at}, undef, 'not completed');
is($answer->{json}{video_url}, undef, 'no video');

# what the user's own application made has no attempts

my $own = uuid();
$pg->query("INSERT INTO video_jobs (id, user_id, model_id, prompt)
    VALUES ('$own', '$user', 'm', 'p')");
$answer = get($nginx->url("/video-jobs/$own"));
is_deeply([@{ $answer->{json} }{qw(provider status estimated_time
    provider_attempts credits_used)}], [undef, 'queued', undef, 0, 1],
    'a job without attempts');

# not there

$before = everything($pg);
for my $path ('/video-jobs/' . uuid(), '/video-jobs/', '/video-jobs/1',
    "/video-jobs/$job/", "/video-jobs/$job.json", "/video-jobs/{$job}",
    '/video-jobs/' . ($job =~ tr/-//dr), "/video-jobs/$job%20",
    '/video-jobs/' . 'a' x 4000)
{
    $answer = get($nginx->url($path));
    is("$answer->{status} $answer->{body}", '404 {"error":"there is no such'
        . ' job","code":"unknown_job"}', substr $path, 0, 60);
}

# whose

my $url = $nginx->url("/my-jobs/$job");
is(get($url, { 'X-User' => $user })->{json}{job_id}, $job, 'its user');
is(get($url, { 'X-User' => uc $user })->{json}{job_id}, $job,
    'in upper case');
$answer = get($url, { 'X-User' => $other });
is("$answer->{status} $answer->{json}{code}", '404 unknown_job',
    'another user is told nothing');
is(get($url, { 'X-User' => 'x' })->{status}, 404, 'nor who is no UUID');
is(get($url)->{status}, 404, 'nor nobody');

# methods

for my $method (qw(POST PUT DELETE OPTIONS)) {
    $answer = request($method, $nginx->url("/video-jobs/$job"), {}, 'x');
    is("$answer->{status} $answer->{headers}{allow}", '405 GET, HEAD',
        $method);
}
is(everything($pg), $before, 'reading changes nothing');
