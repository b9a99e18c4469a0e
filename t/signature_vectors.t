#!/usr/bin/perl

# Published test vectors of webhook signatures verify, and with any byte
# changed, left out or added they do not.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 39;

use VidgenTest::Http qw(many post);
use VidgenTest::Nginx;

# Standard Webhooks' two, GitHub's; and one in Stripe's form, whose signature
# is openssl's: printf '1533204620.%s' '{"id":"evt_1"}' | openssl dgst -sha256
# -hmac webhook_secret

my %vector = (
    first => {
        secret  => 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw',
        headers => {
            'Webhook-Id'        => 'msg_p5jXN8AQM9LWM0D4loKWxJek',
            'Webhook-Timestamp' => '1614265330',
            'Webhook-Signature' =>
                'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=',
        },
        body => '{"test": 2432232314}',
    },
    second => {
        secret  => 'whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD',
        headers => {
            'Webhook-Id'        => 'msg_27UH4WbU6Z5A5EzD8u03UvzRbpk',
            'Webhook-Timestamp' => '1649367553',
            'Webhook-Signature' =>
                'v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=',
        },
        body => '{"email":"test@example.com","username":"test_user"}',
    },
    github => {
        secret  => 'It\'s a Secret to Everybody',
        headers => {
            'X-Hub-Signature-256' => 'sha256=757107ea0eb2509fc211221cce984b8a'
                . '37570b6d7586c22c46f4379c8b043e17',
        },
        body => 'Hello, World!',
    },
    stripe => {
        secret  => 'webhook_secret',
        headers => {
            'Stripe-Signature' => 't=1533204620,v1=d338f8dcc149869765218cacf4'
                . '90149b10c9b0f0d397dba5d5cd2bc5d1021140',
        },
        body => '{"id":"evt_1"}',
    },
);

my $nginx = VidgenTest::Nginx->new(
    env => { map { ("SECRET_\U$_" => $vector{$_}{secret}) } keys %vector },
    config => <<'EOT')->start;
%%GLOBALS%%

events { }

http {
    %%HTTP%%

    vidgen_provider first {
        webhook {
            signature  standard-webhooks tolerance=60y;
            secret     env:SECRET_FIRST;
            job_id     /test;
            status     /status;
        }
    }

    vidgen_provider second {
        webhook {
            signature  standard-webhooks tolerance=60y;
            secret     env:SECRET_SECOND;
            job_id     /username;
            status     /status;
        }
    }

    vidgen_provider github {
        webhook {
            signature  github;
            secret     env:SECRET_GITHUB;
            job_id     /id;
            status     /status;
        }
    }

    vidgen_provider stripe {
        webhook {
            signature  stripe tolerance=60y;
            secret     env:SECRET_STRIPE;
            job_id     /id;
            status     /status;
        }
    }

    vidgen_provider today {
        webhook {
            signature  standard-webhooks;
            secret     env:SECRET_FIRST;
            job_id     /test;
            status     /status;
        }
    }

    server {
        listen 127.0.0.1:%%PORT%%;

        location / {
            vidgen_verify  $arg_provider;
            proxy_pass     http://127.0.0.1:%%PORT_APP%%;
        }
    }

    server {
        listen 127.0.0.1:%%PORT_APP%%;
        return 204;
    }
}
EOT

for my $name (sort keys %vector) {
    my ($headers, $body) = @{ $vector{$name} }{qw(headers body)};

    is(hook($name, $headers, $body), 204, "$name: the vector is passed on");

    for my $header (sort keys %$headers) {
        my $value = $headers->{$header};
        my ($bare) = $value =~ /^(.*?)=*$/;     # padding may be left out

        my @changed = changed($value);
        my @wrong = (@changed, shorter($bare), longer($value));
        is_deeply([believed($name,
            map { [{ %$headers, $header => $_ }, $body] } @wrong)], [],
            "$name: $header with any byte damaged (" . @wrong . ')');

        my %without = %$headers;
        delete $without{$header};
        is(hook($name, \%without, $body), 401, "$name: without $header");
    }

    my @wrong = (changed($body), shorter($body), longer($body));
    is_deeply([believed($name, map { [$headers, $_] } @wrong)], [],
        "$name: its body with any byte damaged (" . @wrong . ')');

    is(hook($name, $headers, ''), 401, "$name: without its body");
    is(hook($name, $headers, $body), 200, "$name: still right, a replay");
}

my $first = $vector{first};
my $signature = $first->{headers}{'Webhook-Signature'};
my $other = 'v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc=';

is(listed("$other v2,$other $signature $other"), 200,
    'the right one among several');
is(listed("$other $other"), 401, 'none of several');
is(listed('v2' . substr $signature, 2), 401, 'of another version');
is(listed('v1' . substr $signature, 3), 401, 'without a separator');
is(listed("$signature,$other"), 401, 'two with another separator');

is(hook('second', $first->{headers}, $first->{body}), 401,
    'another secret');
is(hook('today', $first->{headers}, $first->{body}), 401,
    'a signature of long ago');


sub hook {
    my ($provider, $headers, $body) = @_;
    return post($nginx->url("/?provider=$provider"), $body, $headers)
        ->{status};
}

sub listed {
    my ($list) = @_;
    return hook('first', { %{ $first->{headers} },
        'Webhook-Signature' => $list }, $first->{body});
}

# Which of these were not refused.
sub believed {
    my ($provider, @webhooks) = @_;

    my @believed;
    while (my @some = splice @webhooks, 0, 100) {
        my @answers = many(map { ['POST',
            $nginx->url("/?provider=$provider"), @$_] } @some);
        push @believed, map { $some[$_] } grep { $answers[$_]{status} != 401 }
            0 .. $#some;
    }
    return @believed;
}

sub changed {
    my ($text) = @_;
    return map { substr($text, 0, $_) . (substr($text, $_, 1) ^ "\1")
        . substr $text, $_ + 1 } 0 .. length($text) - 1;
}

sub shorter {
    my ($text) = @_;
    return map { substr($text, 0, $_) . substr $text, $_ + 1 }
        0 .. length($text) - 1;
}

sub longer {
    my ($text) = @_;
    return map { substr($text, 0, $_) . 'A' . substr $text, $_ }
        0 .. length $text;
}
