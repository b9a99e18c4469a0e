#!/usr/bin/perl

# Not under valgrind: it measures time
#
# What is no verdict on a job, though it looks like one: statuses that are
# about us, the moment or a gateway, words that nobody has confirmed, and how
# long a Retry-After is followed.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 31;

use VidgenTest::Books qw(customer wrong_books);
use VidgenTest::Http qw(post);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Util qw(wait_for);

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $provider = VidgenTest::Provider->new;
my $user = customer($pg, 1000);
my $told = 0;

my $nginx = VidgenTest::Nginx->new(
    vars => { DB => $pg->edge_conninfo, BASE => $provider->url },
    env  => { TEST_SECRET => 'webhook-secret' },
    config => <<'EOT')->start;
%%GLOBALS%%
events { }
http {
    %%HTTP%%
    vidgen_database "%%DB%%";
    vidgen_monitor  poll=200ms timeout=5s interval=1h;

    vidgen_provider class {
        base    %%BASE%%;
        submit  { url $vidgen_base/class; job_id /request_id; }
        poll    { url $vidgen_base/status/$vidgen_provider_job_id;
                  status /status; video_url /url; error /detail;
                  then $vidgen_base/result/$vidgen_provider_job_id
                       failed=4xx failed=5xx; }
    }
    vidgen_provider exact {
        base    %%BASE%%;
        submit  { url $vidgen_base/exact; job_id /request_id; }
        poll    { url $vidgen_base/status/$vidgen_provider_job_id;
                  status /status; video_url /url; error /detail;
                  then $vidgen_base/result/$vidgen_provider_job_id
                       failed=403 failed=429 failed=502; }
    }
    vidgen_provider wild {
        base    %%BASE%%;
        submit  { url $vidgen_base/wild; job_id /request_id; }
        poll    { url $vidgen_base/wild/$vidgen_provider_job_id;
                  status /status BUSY=processing DONE=completed BAD=failed
                         *=failed;
                  video_url /url; error /detail; }
    }
    vidgen_provider one {
        base    %%BASE%%;
        submit  { url $vidgen_base/one; job_id /request_id; }
        poll    { url $vidgen_base/one/$vidgen_provider_job_id;
                  status /status; video_url /url; error /detail; }
    }

    vidgen_provider told {
        base    %%BASE%%;
        submit  { url $vidgen_base/told; job_id /request_id;
                  status /state DONE=completed BAD=failed; }
        poll    { url $vidgen_base/told/$vidgen_provider_job_id;
                  status /status; video_url /url; error /detail; }
        webhook { signature hmac-sha256 header=X-Signature;
                  secret env:TEST_SECRET; job_id /id; status /status; }
    }

    server {
        listen 127.0.0.1:%%PORT%%;
        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;
        location = /generate-video    { vidgen_generate; }
    }
}
EOT

sub generate {
    my ($name) = @_;
    return post($nginx->url('/generate-video'), { user_id => $user,
        model_id => 'm', prompt => 'p', provider => $name })->{json}{job_id};
}

sub job {
    my ($job) = @_;
    return join ' ', grep { defined } @{ $pg->query("SELECT status,
        video_url, error_message FROM video_jobs WHERE id = '$job'")->[0] };
}

# What becomes of a job whose result is first answered so, then is there.
sub ended {
    my ($name, $first) = @_;
    $provider->script(qr{GET /result/}, $first,
        { body => { url => 'https://cdn.test/v' } });
    my $job = generate($name);
    wait_for { job($job) =~ /^(?:completed|failed)/ };
    return job($job);
}

$provider->on(qr{GET /status/}, body => { status => 'completed' });


# a class

is(ended('class', { status => $_, headers => { 'Retry-After' => 1 } }),
    'completed https://cdn.test/v', "a class does not mean $_")
    for 401, 402, 403, 407, 408, 425, 429, 502, 503, 504, 524;
is(ended('class', { status => $_, body => { detail => 'nsfw' } }),
    'failed nsfw', "it means $_") for 400, 404, 422, 500, 501;
like($nginx->error_log, qr/"class" wants no polls for 1 seconds/,
    'a 429 of the result pauses as well');


# itself

is(ended('exact', { status => 403, body => { detail => 'banned' } }),
    'failed banned', 'a status that is listed itself means a failure');
is(ended('exact', { status => 502, body => { detail => 'crash' } }),
    'failed crash', 'a gateway\'s as well');
is(ended('exact', { status => 400 }), 'completed https://cdn.test/v',
    'one that is not does not');
like(ended('exact', { status => 429, headers => { 'Retry-After' => 1 } }),
    qr/^failed/, 'a 429 that is listed is a failure');
ok($nginx->wait_log(qr/"exact" wants no polls for 1 seconds/),
    'and a pause');


# a word that only "*" takes for a failure

for (['PAUSED', 'DONE', 'completed https://cdn.test/v'],
    ['PAUSED', 'BAD', 'failed nsfw'])
{
    my ($first, $last, $end) = @$_;
    $provider->script(qr{GET /wild/}, ({ body => { status => $first } }) x 3,
        { body => { status => $last, $last eq 'BAD' ? (detail => 'nsfw')
            : (url => 'https://cdn.test/v') } });
    my $job = generate('wild');
    wait_for { job($job) =~ /^(?:completed|failed)/ };
    is(job($job), $end, "$first says nothing, $last does");
}
like($nginx->error_log, qr/"wild": "PAUSED" is no word of its definition/,
    'it is logged');


# a provider that says at once that it has ended, which a poll has to confirm

for (['DONE', { status => 'completed', url => 'https://cdn.test/v' },
    'completed https://cdn.test/v'],
    ['BAD', { status => 'failed', detail => 'nsfw' }, 'failed nsfw'],
    ['BAD', { status => 'completed', url => 'https://cdn.test/v' },
    'completed https://cdn.test/v'])
{
    my ($state, $body, $end) = @$_;
    $provider->next(body => { request_id => 'told-' . ++$told,
        state => $state });
    $provider->on(qr{GET /told/}, body => $body);
    my $job = generate('told');
    wait_for { job($job) =~ /^(?:completed|failed)/ };
    is(job($job), $end, "$state: the poll says $end");
}


# a Retry-After of an hour, or of for ever

for my $after (3600, 99999999999) {
    $provider->script(qr{GET /one/}, { status => 503,
        headers => { 'Retry-After' => $after } });
    my $job = generate('one');
    my $due;
    wait_for { $due = $pg->value("SELECT ceil(extract(epoch FROM due - now()))
        FROM vidgen.attempts WHERE job_id = '$job' AND polls = 1
        AND due > now() + interval '2 minutes'") };
    ok($due && $due <= 600, "Retry-After: $after is ten minutes at most")
        or diag $due // 'not set';
}

is_deeply([wrong_books($pg)], [], 'the books are right');
