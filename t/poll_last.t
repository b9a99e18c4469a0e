#!/usr/bin/perl

# Not under valgrind: it measures time
#
# What has expired gets a last poll, and is not given up before the provider
# has answered that; where there is nobody to ask, it is.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 11;

use VidgenTest::Books qw(customer wrong_books);
use VidgenTest::Http qw(post);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Util qw(wait_for);

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $provider = VidgenTest::Provider->new;
my $user = customer($pg, 100);

my $nginx = VidgenTest::Nginx->new(
    vars => { DB => $pg->edge_conninfo, BASE => $provider->url },
    env  => { HOOK_SECRET => $provider->secret },
    config => <<'EOT')->start;
%%GLOBALS%%
events { }
http {
    %%HTTP%%
    vidgen_database "%%DB%%";
    vidgen_monitor  poll=200ms timeout=2s interval=1h expire=4s;

    vidgen_provider one {
        submit  { url %%BASE%%/one; job_id /request_id; }
        poll    { url %%BASE%%/one/$vidgen_provider_job_id;
                  status /status; video_url /url; error /error; }
    }
    vidgen_provider told {
        submit  { url %%BASE%%/told; job_id /request_id;
                  body /webhook_url $vidgen_webhook_url; }
        webhook { signature hmac-sha256 header=X-Signature;
                  secret env:HOOK_SECRET; job_id /request_id;
                  status /status; video_url /output/video_url; }
    }

    server {
        listen 127.0.0.1:%%PORT%%;
        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;
        vidgen_webhook_url            http://127.0.0.1:%%PORT%%/hook;
        location = /generate-video    { vidgen_generate; }
        location = /hook              { vidgen_webhook; }
    }
}
EOT

sub generate {
    my ($name) = @_;
    return post($nginx->url('/generate-video'), { user_id => $user,
        model_id => 'm', prompt => 'p', provider => $name })->{json}{job_id};
}

sub attempt {
    my ($job, $what) = @_;
    return $pg->value("SELECT $what FROM vidgen.attempts
        WHERE job_id = '$job'") // '';
}

sub job {
    my ($job) = @_;
    return join ' ', grep { defined } @{ $pg->query("SELECT status,
        video_url, error_message FROM video_jobs WHERE id = '$job'")->[0] };
}


# a pause that outlasts the deadline

$provider->script(qr{GET /one/}, { body => { status => 'processing' } },
    { status => 429, headers => { 'Retry-After' => 11 } },
    { body => { status => 'completed', url => 'https://cdn.test/v' } });
my $job = generate('one');
ok((wait_for { attempt($job, 'deadline <= now()') eq 't' }),
    'the deadline passes');
is(attempt($job, 'state'), 'accepted', 'without an answer it is not lost');
ok((wait_for { job($job) =~ /^(?:completed|failed)/ }), 'it ends');
is(job($job), 'completed https://cdn.test/v', 'by its last poll');


# answers that say nothing of the job do not count

for my $answer ({ status => 503 }, { status => 401 }, { body => 'oops' }) {
    $provider->on(qr{GET /one/}, %$answer);
    my $what = $answer->{status} // 'no JSON';
    $job = generate('one');
    wait_for { attempt($job, 'deadline <= now() AND polls > last_poll')
        eq 't' };
    is(attempt($job, 'state'), 'accepted', "$what does not end it");
    $pg->query("UPDATE vidgen.attempts SET due = now()
        WHERE job_id = '$job'");
    $provider->on(qr{GET /one/}, body => { status => 'processing' });
    wait_for { job($job) =~ /^failed/ } if $what eq '503';
    is(job($job), 'failed no result came', 'what says something does')
        if $what eq '503';
}


# nobody to ask

$job = generate('told');
ok((wait_for { job($job) =~ /^failed/ }),
    'without polls the deadline alone decides');
ok((wait_for { $pg->value(q{SELECT count(*) FROM video_jobs
    WHERE status NOT IN ('completed', 'failed')}) == 0 }), 'all end');
is_deeply([wrong_books($pg)], [], 'the books are right');
