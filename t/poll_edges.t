#!/usr/bin/perl

# A provider that sends no webhooks: a thousand jobs end by polling alone, with
# two nginx on one database; each is applied once, none is polled by two at a
# time.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Time::HiRes qw(time);
use Test::More tests => 14;

use VidgenTest::Books qw(customer wrong_books);
use VidgenTest::Http qw(many);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Util qw(uuid wait_for);

my $jobs = $ENV{VIDGEN_VALGRIND} ? 100 : 1000;

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $provider = VidgenTest::Provider->new;
my $user = customer($pg, 2000);

# one in ten is not done at once, one in a hundred fails

$provider->on(qr{GET /v1/jobs/}, body => { status => 'done',
    result_url => 'https://cdn.test/v.mp4' }, delay => 0.02);
$provider->on(qr{GET /v1/jobs/.*[1-9]0$}, body => { status => 'processing' });
$provider->on(qr{GET /v1/jobs/.*00$},
    body => { status => 'failed', error => 'no GPU' });
$provider->on(qr{GET /v1/status}, status => 200);

sub nginx {
    my ($key) = @_;
    return VidgenTest::Nginx->new(
        vars => { DB => $pg->edge_conninfo },
        env  => { PIKA_BASE_URL => $provider->url, PIKA_API_KEY => $key },
        config => <<'EOT')->start;
%%GLOBALS%%
worker_processes 2;
events { }
http {
    %%HTTP%%
    vidgen_database "%%DB%%";
    vidgen_monitor  poll=500ms;

    include %%PROVIDERS%%/pika.conf;

    server {
        listen 127.0.0.1:%%PORT%%;
        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;
        location = /generate-video    { vidgen_generate; }
        location /jobs/               { vidgen_job; }
    }
}
EOT
}

my @nginx = (nginx('pika-key-1'), nginx('pika-key-2'));
for my $nginx (@nginx) {
    my $url = $nginx->url('/jobs/' . uuid());
    wait_for { !grep { $_->{status} != 404 } many(4, 'GET', $url) };
}

my ($accepted, $began) = (0, time);
for my $i (1 .. $jobs / 50) {
    my $url = $nginx[$i % 2]->url('/generate-video');
    $accepted += grep { $_->{status} == 200 } many(50, 'POST', $url,
        { 'Content-Type' => 'application/json' },
        qq({"user_id":"$user","model_id":"m","prompt":"p"}));
}
is($accepted, $jobs, 'all accepted');

# the slow ones are done by now

ok((wait_for { $pg->value("SELECT count(*) FROM vidgen.attempts
    WHERE state = 'accepted' AND polls > 0") == $jobs * 0.09
    && $pg->value("SELECT count(*) FROM vidgen.attempts
    WHERE state = 'accepted' AND polls = 0") == 0 } 60),
    'some are at work');
$provider->on(qr{GET /v1/jobs/.*[1-9]0$}, body => { status => 'done',
    result_url => 'https://cdn.test/late.mp4' }, delay => 0.02);

ok((wait_for { $pg->value("SELECT count(*) FROM video_jobs
    WHERE status IN ('queued', 'processing')") == 0 } 60), 'all have ended');
diag(sprintf '%d jobs in %.1f s', $jobs, time - $began) if $ENV{VERBOSE};

is($pg->value("SELECT count(*) FROM video_jobs WHERE status = 'completed'
    AND video_url LIKE 'https://cdn.test/%' AND completed_at IS NOT NULL"),
    $jobs * 0.99, 'completed');
is($pg->value("SELECT count(*) FROM video_jobs WHERE status = 'failed'
    AND error_message = 'no GPU'"), $jobs * 0.01, 'failed');
is($pg->value("SELECT count(*) FROM idempotency_log
    WHERE idempotency_key LIKE 'webhook:%'"), $jobs, 'each applied once');
is_deeply([wrong_books($pg)], [], 'the books are right');

# who asked

my (%asked, %key);
for my $request (@{ $provider->requests }) {
    next unless $request->{uri} =~ m{^/v1/jobs/(.+)};
    push @{ $asked{$1} }, $request->{time};
    $key{ $request->{headers}{'x-api-key'} // '' }++;
}
is(scalar keys %asked, $jobs, 'every job was asked for');
is_deeply([sort keys %key], ['pika-key-1', 'pika-key-2'],
    'by both, with their keys');
cmp_ok($_, '>', $jobs / 20, 'and not a few only') for values %key;
is(scalar(grep { @{ $asked{$_} } != 1 } grep { !/[1-9]0$/ } keys %asked), 0,
    'what had ended at once was asked for once');
my $close = 0;
for my $times (values %asked) {
    $close += grep { $times->[$_] - $times->[$_ - 1] < 0.4 } 1 .. $#$times;
}
is($close, 0, 'none by two at a time');

is_deeply([map { $_->error_log =~ /vidgen: poll of/g } @nginx], [],
    'no poll failed');
